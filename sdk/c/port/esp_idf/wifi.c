/* The Wi-Fi station. Networks are tried in turns; what the driver itself would store stays out of it. */
#include <esp_event.h>
#include <esp_log.h>
#include <esp_netif.h>
#include <esp_wifi.h>
#include <freertos/FreeRTOS.h>
#include <freertos/event_groups.h>
#include <stdio.h>
#include <string.h>

#include "board.h"
#include "core.h"

enum { JOIN_MS = 15000, PATIENCE_MS = 30000, LEAVE_MS = 500, MOST = 5, SSID_BYTES = 32, PASSWORD_BYTES = 64 };
enum { THERE = 1, GONE = 2 }; /* bits of `events` */

struct network {
  char ssid[SSID_BYTES + 1], password[PASSWORD_BYTES + 1];
};

static EventGroupHandle_t events;
static struct network networks[MOST], joined;
static size_t count, next;
static bool is_programs;

void mdm_wifi_leave_to_program(void) { is_programs = true; }

bool mdm_wifi_is_there(void) { return is_programs || (events != NULL && (xEventGroupGetBits(events) & THERE)); }

static void on_event(void *context, esp_event_base_t base, int32_t id, void *data) {
  (void)context;
  (void)data;
  if (base == IP_EVENT && id == IP_EVENT_STA_GOT_IP) {
    (void)xEventGroupSetBits(events, THERE);
  } else if (base == WIFI_EVENT && id == WIFI_EVENT_STA_DISCONNECTED) {
    (void)xEventGroupClearBits(events, THERE);
    (void)xEventGroupSetBits(events, GONE);
  }
}

/* Starts the driver. It keeps nothing in NVS: an erased partition `nvs`, as many programs leave it, harms nobody. */
static bool begin(void) {
  wifi_init_config_t settings = WIFI_INIT_CONFIG_DEFAULT();
  settings.nvs_enable = 0;
  if (events != NULL) return true;
  esp_err_t error = esp_netif_init();
  if (error == ESP_OK || error == ESP_ERR_INVALID_STATE) error = esp_event_loop_create_default();
  if (error == ESP_ERR_INVALID_STATE) error = ESP_OK; /* the program has done this before */
  if (error == ESP_OK && esp_netif_create_default_wifi_sta() == NULL) error = ESP_ERR_NO_MEM;
  if (error == ESP_OK) error = esp_wifi_init(&settings);
  if (error == ESP_OK) error = esp_wifi_set_mode(WIFI_MODE_STA);
  EventGroupHandle_t made = xEventGroupCreate();
  if (error == ESP_OK && made == NULL) error = ESP_ERR_NO_MEM;
  if (error != ESP_OK) {
    ESP_LOGE("mdm", "Wi-Fi: %s", esp_err_to_name(error));
    return false;
  }
  events = made;
  error = esp_event_handler_register(WIFI_EVENT, WIFI_EVENT_STA_DISCONNECTED, on_event, NULL);
  if (error == ESP_OK) error = esp_event_handler_register(IP_EVENT, IP_EVENT_STA_GOT_IP, on_event, NULL);
  return error == ESP_OK && esp_wifi_start() == ESP_OK;
}

static bool take(void *context, const struct mdm_json *it) {
  static const char *const NAMES[] = {"ssid", "password", NULL};
  struct mdm_json found[2];
  struct network *network = &networks[count];
  (void)context;
  if (count == MOST) return true;
  if (it->kind != '{' || !mdm_json_object(it->at, it->size, NAMES, found)) return false;
  network->password[0] = '\0';
  if (mdm_json_text(&found[0], network->ssid, sizeof network->ssid) <= 0) return false;
  if (found[1].kind == '"' && mdm_json_text(&found[1], network->password, sizeof network->password) < 0) return false;
  count++;
  return true;
}

/* The networks of the NVS image, for a profile that has none: docs/provisioning.md, Through NVS. */
static void take_own(void) {
  for (count = 0; count < MOST; count++) {
    char number[2] = {count == 0 ? '\0' : (char)('1' + count), '\0'}, name[16];
    (void)snprintf(name, sizeof name, "wifi_ssid%s", number);
    if (!mdm_records_text(name, networks[count].ssid, sizeof networks[count].ssid)) return;
    (void)snprintf(name, sizeof name, "wifi_pass%s", number);
    if (!mdm_records_text(name, networks[count].password, sizeof networks[count].password)) return;
  }
}

static bool join(const struct network *network) {
  wifi_config_t settings = {0};
  (void)xEventGroupClearBits(events, GONE);
  if (esp_wifi_disconnect() == ESP_OK) /* its event must not be taken for a failure of what follows */
    (void)xEventGroupWaitBits(events, GONE, pdFALSE, pdFALSE, pdMS_TO_TICKS(LEAVE_MS));
  memcpy(settings.sta.ssid, network->ssid, strlen(network->ssid));
  memcpy(settings.sta.password, network->password, strlen(network->password)); /* a PSK of 64 digits fills it */
  settings.sta.scan_method = WIFI_ALL_CHANNEL_SCAN; /* the strongest of several with this name */
  settings.sta.sort_method = WIFI_CONNECT_AP_BY_SIGNAL;
  if (esp_wifi_set_config(WIFI_IF_STA, &settings) != ESP_OK) return false;
  ESP_LOGI("mdm", "joining the network %s", network->ssid);
  (void)xEventGroupClearBits(events, THERE | GONE);
  if (esp_wifi_connect() != ESP_OK) return false;
  EventBits_t seen = xEventGroupWaitBits(events, THERE | GONE, pdFALSE, pdFALSE, pdMS_TO_TICKS(JOIN_MS));
  return (seen & THERE) != 0;
}

static bool is_one_of_them(const struct network *network) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(networks[i].ssid, network->ssid) == 0 && strcmp(networks[i].password, network->password) == 0) return true;
  return false;
}

bool mdm_wifi_join(const char *text) {
  if (is_programs) return true;
  if (!begin()) return false;
  count = 0;
  if (text == NULL) {
    take_own();
  } else if (!mdm_json_array(&(struct mdm_json){text, strlen(text), '['}, take, NULL)) {
    ESP_LOGE("mdm", "wifi: must be networks with ssid and password");
    return false;
  }
  if (count == 0 && text == NULL && mdm_wifi_is_there()) return true; /* stay in the network that works */
  if (mdm_wifi_is_there() && is_one_of_them(&joined)) return true;
  if (count == 0) ESP_LOGE("mdm", "no Wi-Fi network is known: the NVS image has none, nor has the profile");
  for (size_t tried = 0; tried < count && tried * JOIN_MS < PATIENCE_MS; tried++) {
    const struct network *network = &networks[next++ % count];
    if (!join(network)) {
      ESP_LOGW("mdm", "the network %s cannot be joined", network->ssid);
      continue;
    }
    joined = *network;
    next--; /* first again, when it is lost */
    return true;
  }
  return false;
}

void mdm_wifi_stop(void) {
  if (events != NULL) (void)esp_wifi_stop();
}

void mdm_wifi_describe(struct mdm_facts *facts) {
  static char address[16];
  esp_netif_ip_info_t info;
  esp_netif_t *network = esp_netif_get_default_netif();
  wifi_ap_record_t access_point;
  facts->ip = NULL;
  facts->rssi_dbm = 0;
  if (network != NULL && esp_netif_get_ip_info(network, &info) == ESP_OK) {
    (void)snprintf(address, sizeof address, IPSTR, IP2STR(&info.ip));
    facts->ip = address;
  }
  if (!is_programs && esp_wifi_sta_get_ap_info(&access_point) == ESP_OK) facts->rssi_dbm = access_point.rssi;
}
