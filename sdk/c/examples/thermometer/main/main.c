/* A thermometer: publishes a temperature every `interval_s` of its configuration, and answers the command `measure`. */
#include <esp_log.h>
#include <esp_system.h>
#include <freertos/FreeRTOS.h>
#include <freertos/task.h>
#include <mdm_esp.h>
#include <stdio.h>
#include <stdlib.h>

static volatile unsigned interval_s = 60;

/* Your sensor. */
static float celsius(void) { return 21.5f; }

static const char *on_config(void *context, const char *json, size_t size) {
  char text[12];
  (void)context;
  if (!mdm_esp_member(json, size, "interval_s", text, sizeof text)) {
    interval_s = 60; /* a configuration that leaves it out */
    return NULL;
  }
  long wanted = strtol(text, NULL, 10);
  if (wanted < 1 || wanted > 86400) return "interval_s: must be 1 to 86400"; /* shown to whoever has set it */
  interval_s = (unsigned)wanted;
  ESP_LOGI("thermometer", "measuring every %u s", interval_s);
  return NULL;
}

static bool measure(void *context, const char *arguments, size_t size, char *answer, size_t capacity) {
  (void)context, (void)arguments, (void)size;
  (void)snprintf(answer, capacity, "{\"celsius\":%.1f}", (double)celsius());
  return true;
}

static bool identify(void *context, const char *arguments, size_t size, char *answer, size_t capacity) {
  (void)context, (void)arguments, (void)size, (void)answer, (void)capacity;
  ESP_LOGI("thermometer", "here I am"); /* blink your LED */
  return true;
}

void app_main(void) {
  static const struct mdm_esp_options OPTIONS = {.self_tests = true};
  mdm_esp_on_config(on_config, NULL);
  (void)mdm_esp_command("measure", measure, NULL);
  (void)mdm_esp_command("identify", identify, NULL);
  if (mdm_esp_start(&OPTIONS) != ESP_OK) { /* the line above has the reason */
    vTaskDelay(pdMS_TO_TICKS(10000));
    esp_restart(); /* the bootloader goes back from an image on trial */
  }
  for (;;) {
    char reading[32];
    float now = celsius();
    if (now > -40.0f && now < 125.0f) mdm_esp_healthy(); /* the sensor answers: this image may stay */
    int size = snprintf(reading, sizeof reading, "{\"celsius\":%.1f}", (double)now);
    if (!mdm_esp_publish("temperature", reading, (size_t)size)) ESP_LOGI("thermometer", "not online: not sent");
    (void)snprintf(reading, sizeof reading, "{\"temperature_celsius\":%.1f}", (double)now);
    (void)mdm_esp_vitals(reading); /* add your heap, signal, battery: `mdm device vitals` shows them */
    for (unsigned waited = 0; waited < interval_s; waited++) vTaskDelay(pdMS_TO_TICKS(1000));
  }
}
