"""Facts of ESP32 boards: images, signatures, NVS."""
