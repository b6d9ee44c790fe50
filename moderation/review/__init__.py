"""Outcomes and the people who judge: decisions recorded, cases opened."""
