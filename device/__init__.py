"""The reference device: an ESP32 as the protocol wants it, on asyncio."""
