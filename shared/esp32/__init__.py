"""The formats of ESP32 boards: chips, application images and their signatures."""
