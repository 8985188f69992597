/* The task of the device, and the calls of mdm_esp.h, which reach it by a queue: the core has one thread. */
#include <esp_attr.h>
#include <esp_log.h>
#include <esp_sleep.h>
#include <esp_system.h>
#include <freertos/FreeRTOS.h>
#include <freertos/queue.h>
#include <freertos/task.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"
#include "broker.h"
#include "crypto.h"

enum { WAITING = 12, TAG_BYTES = 16, LINE_BYTES = 128, LOOK_MS = 100, PRIORITY = 5, MESSAGE_BYTES = 8192 };
enum kind { LINE, MESSAGE };

struct call {
  enum kind kind;
  enum mdm_level level;
  size_t size;
  char *message; /* MESSAGE: the topic, a NUL, `size` bytes; from the heap */
  char tag[TAG_BYTES], text[LINE_BYTES];
};

static struct mdm device;
static struct mdm_port port;
static struct mdm_facts facts;
static struct mdm_dump dump;
static QueueHandle_t calls;
static volatile bool is_online, is_healthy;
static char name[MDM_NAME_MAX + 1]; /* our client id, since the first login */
static RTC_DATA_ATTR uint32_t key_told_s; /* survives a deep sleep, and nothing else */

/* ---- What actions need ---- */

bool mdm_board_join(const struct mdm_login *login) {
  if (!mdm_wifi_join(login->wifi)) return false;
  mdm_wifi_describe(&facts);
  if (login->will != NULL) (void)snprintf(name, sizeof name, "%s", login->client_id);
  return true;
}

void mdm_board_wait(uint32_t ms) { vTaskDelay(pdMS_TO_TICKS(ms) + 1); }

void mdm_board_restart(void) { esp_restart(); }

void mdm_board_sleep(uint32_t seconds) {
  uint32_t told_s = mdm_key_told_s(&device);
  key_told_s = told_s > 0 ? told_s + seconds : 0;
  mdm_wifi_stop();
  esp_deep_sleep((uint64_t)seconds * 1000000);
}

/* ---- The task ---- */

static void take_calls(void) {
  static struct call call;
  if (is_healthy) {
    is_healthy = false;
    mdm_healthy(&device);
  }
  while (xQueueReceive(calls, &call, 0) == pdTRUE) {
    if (call.kind == LINE) {
      mdm_log(&device, call.level, call.tag, call.text);
    } else {
      if (mdm_is_online(&device)) (void)mdm_broker_post(call.message, call.message + strlen(call.message) + 1, call.size);
      free(call.message);
    }
  }
}

/* ---- Calls of the program ---- */

static esp_err_t begin(void) {
  static const struct {
    esp_err_t code;
    const char *why;
  } ERRORS[] = {[MDM_NO_IDENTITY] = {ESP_ERR_NOT_FOUND, "the partition mdm has neither a package nor a claim package"},
                [MDM_BAD_PACKAGE] = {ESP_ERR_INVALID_ARG, "the package breaks a rule, is another device's, or exceeds the buffer"},
                [MDM_NO_TOKENS] = {ESP_FAIL, ""}, /* this port has them */
                [MDM_DAMAGED] = {ESP_ERR_INVALID_STATE, "a record cannot be read"},
                [MDM_FAILED] = {ESP_FAIL, "the cryptography failed"}};
  esp_err_t error = mdm_records_begin();
  if (error != ESP_OK) return error;
  void *buffer = malloc(CONFIG_MDM_BUFFER_BYTES);
  if (buffer == NULL) return ESP_ERR_NO_MEM;
  enum mdm_error failed = MDM_FAILED;
  if (mdm_psa_begin()) {
    mdm_psa_use(&port);
    port.load = mdm_records_load;
    mdm_app_describe(&facts);
    mdm_actions_begin(&device);
    failed = mdm_begin(&device, &port, &facts, buffer, CONFIG_MDM_BUFFER_BYTES, mdm_line_now_ms());
  }
  if (failed == MDM_OK) {
    if (mdm_dump_find(&dump)) mdm_offer_dump(&device, &dump);
    mdm_logs_begin();
    return ESP_OK;
  }
  ESP_LOGE("mdm", "%s", ERRORS[failed].why);
  return ERRORS[failed].code;
}

/* All of it is in this task, whose stack is large enough for the cryptography of the first start. */
static void run_device(void *started) {
  esp_err_t error = begin();
  (void)xQueueSend(started, &error, portMAX_DELAY);
  if (error != ESP_OK) vTaskDelete(NULL);
  for (;;) {
    take_calls();
    mdm_take_turn(LOOK_MS); /* select cannot wait for a queue */
    is_online = mdm_is_online(&device);
  }
}

esp_err_t mdm_esp_start(const struct mdm_esp_options *options) {
  if (calls != NULL) return ESP_ERR_INVALID_STATE;
  if (options != NULL && options->wake_interval_s > MDM_WAKE_INTERVAL_MAX_S) {
    ESP_LOGE("mdm", "wake_interval_s: must be at most 2592000");
    return ESP_ERR_INVALID_ARG;
  }
#ifdef CONFIG_MDM_HURRY /* tests only */
  facts.hurry = CONFIG_MDM_HURRY;
#endif
  facts.has_tokens = true;
  facts.key_told_s = key_told_s;
  if (options != NULL) facts.self_tested = options->self_tests;
  if (options != NULL) facts.wake_interval_s = options->wake_interval_s;
  if (options != NULL) facts.either = options->either_login;
  if (options != NULL && options->own_network) mdm_wifi_leave_to_program();
  QueueHandle_t started = xQueueCreate(1, sizeof(esp_err_t)); /* stays: the task may still be in its call of it */
  calls = xQueueCreate(WAITING, sizeof(struct call));
  esp_err_t error = ESP_ERR_NO_MEM;
  bool runs = calls != NULL && started != NULL &&
              xTaskCreate(run_device, "mdm", CONFIG_MDM_STACK_BYTES, started, PRIORITY, NULL) == pdPASS;
  if (runs) (void)xQueueReceive(started, &error, portMAX_DELAY);
  return error;
}

void mdm_esp_healthy(void) { is_healthy = true; }

void mdm_esp_log(enum mdm_esp_level level, const char *tag, const char *text) {
  struct call call = {.kind = LINE, .level = (enum mdm_level)level};
  (void)snprintf(call.tag, sizeof call.tag, "%s", tag);
  (void)snprintf(call.text, sizeof call.text, "%s", text);
  if (calls != NULL) (void)xQueueSend(calls, &call, 0);
}

static bool post(const char *prefix, const char *topic, const void *data, size_t size) {
  if (!is_online || size > MESSAGE_BYTES) return false;
  size_t length = strlen(prefix) + strlen("//up/") + strlen(name) + strlen(topic) + 1;
  struct call call = {.kind = MESSAGE, .size = size, .message = malloc(length + size)};
  if (call.message == NULL) return false;
  (void)snprintf(call.message, length, "%s/%s/up/%s", prefix, name, topic);
  memcpy(call.message + length, data, size);
  if (xQueueSend(calls, &call, 0) == pdTRUE) return true;
  free(call.message);
  return false;
}

bool mdm_esp_publish(const char *topic, const void *data, size_t size) { return post("app", topic, data, size); }

bool mdm_esp_vitals(const char *json) { return post("mdm/v1/d", "vitals", json, strlen(json)); }

bool mdm_esp_is_online(void) { return is_online; }
