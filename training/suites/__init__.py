"""Texts that judge the model: functions of behaviour, tricks of evasion, clean text. None of them is trained on."""
