/* What port/esp_idf uses of ESP-IDF, to compile and run it without ESP-IDF. The first part are the types, reduced to the
 * members that are used; the second part are the functions, which sdk/c/tests/esp_idf/agree.py compares with the headers
 * of a checkout: there they are declared once more, behind the real ones. */
#ifndef MDM_TYPES_ARE_REAL
#ifndef MDM_DECLARED_H
#define MDM_DECLARED_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#define CONFIG_IDF_TARGET "esp32"
#define CONFIG_IDF_FIRMWARE_CHIP_ID 0
#define CONFIG_ESP_COREDUMP_ENABLE_TO_FLASH 1
#define CONFIG_MBEDTLS_CERTIFICATE_BUNDLE 1

typedef int esp_err_t;
enum { ESP_OK, ESP_FAIL = -1, ESP_ERR_NO_MEM = 0x101, ESP_ERR_INVALID_ARG = 0x102, ESP_ERR_INVALID_STATE = 0x103 };
enum { ESP_ERR_NOT_FOUND = 0x105, ESP_ERR_NVS_NOT_FOUND = 0x1102, ESP_ERR_NVS_PART_NOT_FOUND = 0x110F };

#define RTC_DATA_ATTR
#define ESP_ERROR_CHECK(call) \
  do {                        \
    if ((call) != ESP_OK) abort(); \
  } while (0)
void declared_log(char level, const char *tag, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define ESP_LOGE(tag, ...) declared_log('E', tag, __VA_ARGS__)
#define ESP_LOGW(tag, ...) declared_log('W', tag, __VA_ARGS__)
#define ESP_LOGI(tag, ...) declared_log('I', tag, __VA_ARGS__)
typedef int (*vprintf_like_t)(const char *, va_list);

typedef uint32_t nvs_handle_t;
typedef enum { NVS_READONLY, NVS_READWRITE } nvs_open_mode_t;

typedef enum { ESP_PARTITION_TYPE_APP = 0, ESP_PARTITION_TYPE_DATA = 1 } esp_partition_type_t;
typedef enum {
  ESP_PARTITION_SUBTYPE_APP_OTA_0 = 0x10,
  ESP_PARTITION_SUBTYPE_APP_OTA_1 = 0x11,
  ESP_PARTITION_SUBTYPE_DATA_COREDUMP = 0x03
} esp_partition_subtype_t;
typedef struct {
  esp_partition_subtype_t subtype;
  uint32_t address, size;
} esp_partition_t;
typedef enum { ESP_OTA_IMG_PENDING_VERIFY = 1, ESP_OTA_IMG_UNDEFINED = -1 } esp_ota_img_states_t;
typedef struct {
  char version[32], project_name[32];
  uint8_t app_elf_sha256[32];
} esp_app_desc_t;
typedef enum {
  ESP_RST_UNKNOWN, ESP_RST_POWERON, ESP_RST_EXT, ESP_RST_SW, ESP_RST_PANIC, ESP_RST_INT_WDT, ESP_RST_TASK_WDT, ESP_RST_WDT,
  ESP_RST_DEEPSLEEP, ESP_RST_BROWNOUT
} esp_reset_reason_t;
typedef struct {
  uint8_t app_elf_sha256[10];
} esp_core_dump_summary_t;

typedef struct esp_tls esp_tls_t;
typedef struct esp_tls_cfg {
  const unsigned char *cacert_buf;
  unsigned int cacert_bytes;
  int timeout_ms;
  esp_err_t (*crt_bundle_attach)(void *conf);
  bool is_plain_tcp;
} esp_tls_cfg_t;
enum { ESP_TLS_ERR_SSL_WANT_READ = -0x6900, ESP_TLS_ERR_SSL_WANT_WRITE = -0x6880 };

typedef int BaseType_t;
typedef unsigned UBaseType_t;
typedef uint32_t TickType_t, EventBits_t;
typedef void *TaskHandle_t;
typedef struct queue *QueueHandle_t;
typedef struct event_group *EventGroupHandle_t;
typedef void (*TaskFunction_t)(void *);
enum { pdFALSE, pdTRUE, pdPASS = 1 };
#define portMAX_DELAY UINT32_MAX
#define pdMS_TO_TICKS(ms) ((TickType_t)((ms) / 10))
#define xQueueCreate(length, size) declared_queue(length, size)
#define xQueueSend(queue, item, wait) declared_send(queue, item)
#define xEventGroupGetBits(group) declared_bits(group)
QueueHandle_t declared_queue(UBaseType_t length, UBaseType_t size);
BaseType_t declared_send(QueueHandle_t queue, const void *item);
EventBits_t declared_bits(EventGroupHandle_t group);

typedef const char *esp_event_base_t;
typedef void (*esp_event_handler_t)(void *, esp_event_base_t, int32_t, void *);
extern esp_event_base_t const WIFI_EVENT, IP_EVENT;
enum { WIFI_EVENT_STA_DISCONNECTED = 5, IP_EVENT_STA_GOT_IP = 0 };
typedef struct esp_netif_obj esp_netif_t;
typedef struct {
  struct {
    uint32_t addr;
  } ip;
} esp_netif_ip_info_t;
#define IPSTR "%u.%u.%u.%u"
#define IP2STR(it) (it)->addr & 255, (it)->addr >> 8 & 255, (it)->addr >> 16 & 255, (it)->addr >> 24
typedef struct {
  int nvs_enable;
} wifi_init_config_t;
#define WIFI_INIT_CONFIG_DEFAULT() {1}
typedef enum { WIFI_MODE_STA = 1 } wifi_mode_t;
typedef enum { WIFI_IF_STA } wifi_interface_t;
enum { WIFI_ALL_CHANNEL_SCAN = 1, WIFI_CONNECT_AP_BY_SIGNAL = 0 };
typedef union {
  struct {
    uint8_t ssid[32], password[64];
    int scan_method, sort_method;
  } sta;
} wifi_config_t;
typedef struct {
  int8_t rssi;
} wifi_ap_record_t;
#endif
#endif

const char *esp_err_to_name(esp_err_t code);
vprintf_like_t esp_log_set_vprintf(vprintf_like_t func);
int64_t esp_timer_get_time(void);
esp_reset_reason_t esp_reset_reason(void);
void esp_restart(void) __attribute__((noreturn));
void esp_deep_sleep(uint64_t time_in_us) __attribute__((noreturn));
esp_err_t esp_efuse_mac_get_default(uint8_t *mac);

esp_err_t nvs_flash_init_partition(const char *partition_label);
esp_err_t nvs_open_from_partition(const char *part_name, const char *namespace_name, nvs_open_mode_t open_mode,
                                  nvs_handle_t *out_handle);
esp_err_t nvs_get_blob(nvs_handle_t handle, const char *key, void *out_value, size_t *length);
esp_err_t nvs_get_str(nvs_handle_t handle, const char *key, char *out_value, size_t *length);
esp_err_t nvs_set_blob(nvs_handle_t handle, const char *key, const void *value, size_t length);
esp_err_t nvs_get_u8(nvs_handle_t handle, const char *key, uint8_t *out_value);
esp_err_t nvs_set_u8(nvs_handle_t handle, const char *key, uint8_t value);
esp_err_t nvs_erase_key(nvs_handle_t handle, const char *key);
esp_err_t nvs_commit(nvs_handle_t handle);

const esp_app_desc_t *esp_app_get_description(void);
const esp_partition_t *esp_partition_find_first(esp_partition_type_t type, esp_partition_subtype_t subtype, const char *label);
esp_err_t esp_partition_read(const esp_partition_t *partition, size_t src_offset, void *dst, size_t size);
esp_err_t esp_partition_write(const esp_partition_t *partition, size_t dst_offset, const void *src, size_t size);
esp_err_t esp_partition_erase_range(const esp_partition_t *partition, size_t offset, size_t size);
esp_err_t esp_partition_get_sha256(const esp_partition_t *partition, uint8_t *sha_256);
const esp_partition_t *esp_ota_get_running_partition(void);
const esp_partition_t *esp_ota_get_next_update_partition(const esp_partition_t *start_from);
esp_err_t esp_ota_get_partition_description(const esp_partition_t *partition, esp_app_desc_t *app_desc);
esp_err_t esp_ota_get_state_partition(const esp_partition_t *partition, esp_ota_img_states_t *ota_state);
esp_err_t esp_ota_set_boot_partition(const esp_partition_t *partition);
esp_err_t esp_ota_mark_app_valid_cancel_rollback(void);
esp_err_t esp_ota_mark_app_invalid_rollback_and_reboot(void);
esp_err_t esp_core_dump_image_check(void);
esp_err_t esp_core_dump_image_get(size_t *out_addr, size_t *out_size);
esp_err_t esp_core_dump_image_erase(void);
esp_err_t esp_core_dump_get_summary(esp_core_dump_summary_t *summary);
esp_err_t esp_core_dump_get_panic_reason(char *reason_buffer, size_t buffer_size);

esp_err_t esp_crt_bundle_attach(void *conf);
esp_tls_t *esp_tls_init(void);
int esp_tls_conn_new_sync(const char *hostname, int hostlen, int port, const esp_tls_cfg_t *cfg, esp_tls_t *tls);
ssize_t esp_tls_conn_write(esp_tls_t *tls, const void *data, size_t datalen);
ssize_t esp_tls_conn_read(esp_tls_t *tls, void *data, size_t datalen);
ssize_t esp_tls_get_bytes_avail(esp_tls_t *tls);
esp_err_t esp_tls_get_conn_sockfd(esp_tls_t *tls, int *sockfd);
int esp_tls_conn_destroy(esp_tls_t *tls);

BaseType_t xTaskCreate(TaskFunction_t task, const char *const name, const uint32_t stack, void *const context,
                       UBaseType_t priority, TaskHandle_t *const handle);
void vTaskDelay(const TickType_t ticks);
void vTaskDelete(TaskHandle_t task);
BaseType_t xQueueReceive(QueueHandle_t queue, void *const item, TickType_t wait);
EventGroupHandle_t xEventGroupCreate(void);
EventBits_t xEventGroupSetBits(EventGroupHandle_t group, const EventBits_t bits);
EventBits_t xEventGroupClearBits(EventGroupHandle_t group, const EventBits_t bits);
EventBits_t xEventGroupWaitBits(EventGroupHandle_t group, const EventBits_t bits, const BaseType_t clears,
                                const BaseType_t all, TickType_t wait);

esp_err_t esp_netif_init(void);
esp_netif_t *esp_netif_create_default_wifi_sta(void);
esp_netif_t *esp_netif_get_default_netif(void);
esp_err_t esp_netif_get_ip_info(esp_netif_t *esp_netif, esp_netif_ip_info_t *ip_info);
esp_err_t esp_event_loop_create_default(void);
esp_err_t esp_event_handler_register(esp_event_base_t event_base, int32_t event_id, esp_event_handler_t event_handler,
                                     void *event_handler_arg);
esp_err_t esp_wifi_init(const wifi_init_config_t *config);
esp_err_t esp_wifi_set_mode(wifi_mode_t mode);
esp_err_t esp_wifi_start(void);
esp_err_t esp_wifi_stop(void);
esp_err_t esp_wifi_connect(void);
esp_err_t esp_wifi_disconnect(void);
esp_err_t esp_wifi_set_config(wifi_interface_t interface, wifi_config_t *conf);
esp_err_t esp_wifi_sta_get_ap_info(wifi_ap_record_t *ap_info);
