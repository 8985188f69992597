"""The reference device: the protocol of an ESP32 device, on asyncio."""
