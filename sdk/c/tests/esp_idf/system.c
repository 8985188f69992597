/* The rest of the board of files: tasks, queues, time, log, TLS and a Wi-Fi network that is always there. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../port/posix/posix.h"
#include "board.h"
#include "declared.h"

void app_main(void);

static char **arguments;

/* ---- System ---- */

const char *esp_err_to_name(esp_err_t code) {
  static char text[16];
  (void)snprintf(text, sizeof text, "0x%x", (unsigned)code);
  return text;
}

int64_t esp_timer_get_time(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

esp_reset_reason_t esp_reset_reason(void) { return ESP_RST_SW; }

void board_restart(void) {
  net_close();
  (void)execv("/proc/self/exe", arguments);
  abort();
}

void esp_restart(void) { board_restart(); }

void esp_deep_sleep(uint64_t time_in_us) {
  net_close();
  (void)poll(NULL, 0, (int)(time_in_us / 1000));
  board_restart();
}

esp_err_t esp_efuse_mac_get_default(uint8_t *mac) {
  const char *uid = getenv("MDM_UID");
  for (int i = 0; i < 6; i++) mac[i] = uid == NULL ? 0 : (uint8_t)strtoul((char[3]){uid[2 * i], uid[2 * i + 1]}, NULL, 16);
  return ESP_OK;
}

static int print_it(const char *format, va_list values) { return vfprintf(stderr, format, values); }
static vprintf_like_t print = print_it;

vprintf_like_t esp_log_set_vprintf(vprintf_like_t function) {
  vprintf_like_t before = print;
  print = function;
  return before;
}

static void print_line(const char *format, ...) {
  va_list values;
  va_start(values, format);
  (void)print(format, values);
  va_end(values);
}

/* As ESP_LOG does: the level is in the format, with colours as ESP-IDF 5 has them. */
void declared_log(char level, const char *tag, const char *format, ...) {
  char whole[256], text[256];
  va_list values;
  va_start(values, format);
  (void)vsnprintf(text, sizeof text, format, values);
  va_end(values);
  (void)snprintf(whole, sizeof whole, "\033[0;32m%c (%%u) %%s: %%s\033[0m\n", level);
  print_line(whole, (unsigned)(esp_timer_get_time() / 1000), tag, text);
}

/* ---- Tasks ---- */

struct queue {
  pthread_mutex_t lock;
  size_t size, length, count;
  char *items;
};

struct task {
  TaskFunction_t run;
  void *context;
};

static void *start(void *task) {
  ((struct task *)task)->run(((struct task *)task)->context);
  return NULL;
}

BaseType_t xTaskCreate(TaskFunction_t run, const char *const name, const uint32_t stack, void *const context,
                       UBaseType_t priority, TaskHandle_t *const handle) {
  static struct task task;
  pthread_t thread;
  (void)name, (void)stack, (void)priority, (void)handle;
  task = (struct task){run, context};
  return pthread_create(&thread, NULL, start, &task) == 0 ? pdPASS : pdFALSE;
}

void vTaskDelay(const TickType_t ticks) { (void)poll(NULL, 0, (int)ticks * 10); }

QueueHandle_t declared_queue(UBaseType_t length, UBaseType_t size) {
  struct queue *queue = calloc(1, sizeof *queue);
  *queue = (struct queue){.size = size, .length = length, .items = malloc(length * (size_t)size)};
  (void)pthread_mutex_init(&queue->lock, NULL);
  return queue;
}

BaseType_t declared_send(QueueHandle_t queue, const void *item) {
  (void)pthread_mutex_lock(&queue->lock);
  bool fits = queue->count < queue->length;
  if (fits) memcpy(queue->items + queue->size * queue->count++, item, queue->size);
  (void)pthread_mutex_unlock(&queue->lock);
  return fits;
}

static bool take(QueueHandle_t queue, void *item) {
  (void)pthread_mutex_lock(&queue->lock);
  bool some = queue->count > 0;
  if (some) {
    memcpy(item, queue->items, queue->size);
    memmove(queue->items, queue->items + queue->size, queue->size * --queue->count);
  }
  (void)pthread_mutex_unlock(&queue->lock);
  return some;
}

BaseType_t xQueueReceive(QueueHandle_t queue, void *const item, TickType_t wait) {
  bool some = take(queue, item);
  for (TickType_t waited = 0; !some && waited < wait; waited++) {
    vTaskDelay(1);
    some = take(queue, item);
  }
  return some;
}

void vTaskDelete(TaskHandle_t task) {
  if (task == NULL) pthread_exit(NULL);
}

/* ---- Wi-Fi: its events come from within the calls that cause them ---- */

struct event_group {
  EventBits_t bits;
};
esp_event_base_t const WIFI_EVENT = "WIFI_EVENT", IP_EVENT = "IP_EVENT";
static struct event_group group;
static esp_event_handler_t handler;
static bool joined, tried;

EventGroupHandle_t xEventGroupCreate(void) { return &group; }
EventBits_t declared_bits(EventGroupHandle_t it) { return it->bits; }
EventBits_t xEventGroupSetBits(EventGroupHandle_t it, const EventBits_t bits) { return it->bits |= bits; }
EventBits_t xEventGroupClearBits(EventGroupHandle_t it, const EventBits_t bits) { return it->bits &= ~bits; }
EventBits_t xEventGroupWaitBits(EventGroupHandle_t it, const EventBits_t bits, const BaseType_t clears, const BaseType_t all,
                                TickType_t wait) {
  (void)bits, (void)clears, (void)all, (void)wait;
  return it->bits;
}

esp_err_t esp_netif_init(void) { return ESP_OK; }
esp_netif_t *esp_netif_create_default_wifi_sta(void) { return (esp_netif_t *)&group; }
esp_netif_t *esp_netif_get_default_netif(void) { return (esp_netif_t *)&group; }
esp_err_t esp_netif_get_ip_info(esp_netif_t *it, esp_netif_ip_info_t *info) {
  info->ip.addr = it == NULL ? 0 : 0x0702000A;
  return ESP_OK;
}
esp_err_t esp_event_loop_create_default(void) { return ESP_ERR_INVALID_STATE; }
esp_err_t esp_event_handler_register(esp_event_base_t base, int32_t id, esp_event_handler_t it, void *context) {
  (void)base, (void)id, (void)context;
  handler = it;
  return ESP_OK;
}
esp_err_t esp_wifi_init(const wifi_init_config_t *settings) { return settings->nvs_enable == 0 ? ESP_OK : ESP_FAIL; }
esp_err_t esp_wifi_set_mode(wifi_mode_t mode) { return mode == WIFI_MODE_STA ? ESP_OK : ESP_FAIL; }
esp_err_t esp_wifi_start(void) { return ESP_OK; }
esp_err_t esp_wifi_stop(void) { return ESP_OK; }
esp_err_t esp_wifi_connect(void) {
  handler(NULL, joined ? IP_EVENT : WIFI_EVENT, joined ? IP_EVENT_STA_GOT_IP : WIFI_EVENT_STA_DISCONNECTED, NULL);
  tried = true;
  return ESP_OK;
}
esp_err_t esp_wifi_disconnect(void) {
  if (tried) handler(NULL, WIFI_EVENT, WIFI_EVENT_STA_DISCONNECTED, NULL);
  return ESP_OK;
}
/* The network is `hall`, with the password `correct horse`. */
esp_err_t esp_wifi_set_config(wifi_interface_t interface, wifi_config_t *settings) {
  joined = strncmp((char *)settings->sta.ssid, "hall", 32) == 0 && strncmp((char *)settings->sta.password, "correct horse", 64) == 0;
  return interface == WIFI_IF_STA ? ESP_OK : ESP_FAIL;
}
esp_err_t esp_wifi_sta_get_ap_info(wifi_ap_record_t *found) {
  found->rssi = -61;
  return joined ? ESP_OK : ESP_FAIL;
}

/* ---- esp-tls, by the connection of port/posix ---- */

esp_err_t esp_crt_bundle_attach(void *settings) { return settings == NULL ? ESP_FAIL : ESP_OK; }
esp_tls_t *esp_tls_init(void) { return (esp_tls_t *)&group; }
int esp_tls_conn_new_sync(const char *host, int length, int port, const esp_tls_cfg_t *settings, esp_tls_t *tls) {
  (void)tls;
  if (length != (int)strlen(host) || settings->timeout_ms == 0) return -1;
  bool good = net_open(host, (uint16_t)port, !settings->is_plain_tcp, (const char *)settings->cacert_buf);
  if (!good) (void)fprintf(stderr, "esp-tls: %s\n", net_error());
  return good ? 1 : -1;
}
ssize_t esp_tls_conn_write(esp_tls_t *tls, const void *data, size_t size) { return tls != NULL && net_send(data, size) ? (ssize_t)size : -1; }
ssize_t esp_tls_conn_read(esp_tls_t *tls, void *data, size_t size) {
  int taken = tls == NULL ? -1 : net_receive(data, size, 20);
  return taken == 0 ? ESP_TLS_ERR_SSL_WANT_READ : taken;
}
ssize_t esp_tls_get_bytes_avail(esp_tls_t *tls) { return tls == NULL; }
esp_err_t esp_tls_get_conn_sockfd(esp_tls_t *tls, int *socket) {
  *socket = -1;
  return tls == NULL ? ESP_OK : ESP_FAIL;
}
int esp_tls_conn_destroy(esp_tls_t *tls) {
  net_close();
  return tls == NULL ? -1 : 0;
}

/* ---- Start: FOLDER [IMAGE], and the program of an example ---- */

int main(int count, char **values) {
  arguments = values;
  (void)signal(SIGPIPE, SIG_IGN);
  if (count < 2 || !files_begin(values[1]) || !board_boot(count > 2 ? values[2] : NULL)) return 1;
  app_main();
  for (;;) (void)pause();
}
