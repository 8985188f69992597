/* A device on an ESP32, with ESP-IDF 5.5, ESP-IDF 6.0 or Arduino: README.md in this folder begins with an example.
 *
 * mdm_esp_start starts a task that joins the Wi-Fi network, connects, and does all that docs/protocol.md requires of a
 * device. Say before it what your program does with configurations and commands. Its identity is in the NVS partition
 * `mdm`, which nothing else may write or erase. */
#ifndef MDM_ESP_H
#define MDM_ESP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <esp_err.h>
#ifdef __cplusplus
extern "C" {
#endif

#define MDM_ESP_COMMANDS 16

/* Applies a configuration, a JSON object of `size` characters without a NUL behind it. Returns NULL if it is in force,
 * else one line that says why it is not. Called in the library's task: at each start, and when a new one comes. */
typedef const char *(*mdm_esp_config)(void *context, const char *json, size_t size);

/* Executes a command with `arguments`, a JSON object of `size` characters. Writes a JSON object, or an error if it
 * returns false, into `answer`: at most `capacity` bytes with a NUL; without any there is no result. Called in the
 * library's task, which does nothing else meanwhile. `reboot` is done by the library. */
typedef bool (*mdm_esp_run)(void *context, const char *arguments, size_t size, char *answer, size_t capacity);

enum mdm_esp_level { MDM_ESP_DEBUG, MDM_ESP_INFO, MDM_ESP_WARNING, MDM_ESP_ERROR };

struct mdm_esp_options {
  bool self_tests; /* an image on trial is kept only after mdm_esp_healthy; else once the server has answered it */
  bool own_network; /* your program brings the network up, as with Ethernet; else the library joins Wi-Fi */
  bool either_login; /* a token first, and the secret if that fails: while a fleet moves to a broker that wants tokens */
  /* 0: stays connected. Else, from 1 to 2592000, it falls into deep sleep for so many seconds once the server has answered
   * and nothing has come for two seconds, or after three minutes without a connection: app_main runs again then. */
  uint32_t wake_interval_s;
};

void mdm_esp_on_config(mdm_esp_config apply, void *context);
/* `name` stays valid. More than MDM_ESP_COMMANDS are refused with ESP_ERR_NO_MEM. */
esp_err_t mdm_esp_command(const char *name, mdm_esp_run run, void *context);
/* Starts the device; `options` may be NULL. If it fails, the reason is in the log: ESP_ERR_NOT_FOUND without a partition
 * `mdm` or a package in it, ESP_ERR_INVALID_ARG for a package that breaks a rule, ESP_ERR_INVALID_STATE for a record that
 * cannot be read. Then wait a while and restart, as the examples do: the bootloader goes back from an image on trial. */
esp_err_t mdm_esp_start(const struct mdm_esp_options *options);
/* The running image works. From any task. */
void mdm_esp_healthy(void);
/* A line for `mdm log show`; warnings and errors of ESP_LOG are sent by themselves. From any task. Never a secret. */
void mdm_esp_log(enum mdm_esp_level level, const char *tag, const char *text);
/* Publishes on the device's own topic app/{client_id}/up/{name} with QoS 0. False: not online, or too much is waiting;
 * the message is dropped. From any task. */
bool mdm_esp_publish(const char *name, const void *data, size_t size);
/* Reports vitals, as {"heap_free_bytes":142336,"rssi_dbm":-61}, with QoS 0: every five minutes, see docs/protocol.md,
 * Vitals. False as above. From any task. */
bool mdm_esp_vitals(const char *json);
/* From any task. */
bool mdm_esp_is_online(void);
/* Copies the member `name` of a JSON object as text with a NUL: a string decoded, a number and anything else as it is
 * written. False: it is not there, or has `capacity` characters or more. For more than this, take any JSON parser. */
bool mdm_esp_member(const char *json, size_t size, const char *name, char *text, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif
