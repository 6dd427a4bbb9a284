"""Personal data: found offline, replaced by stable typed placeholders."""
