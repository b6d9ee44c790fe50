"""The console: pages under /console/ where people work, server-rendered, over the services the JSON API calls."""
