/* The parts of the port for ESP32, next to what actions.h and broker.h require of a port. */
#ifndef MDM_BOARD_H
#define MDM_BOARD_H
#include "actions.h"
#include "mdm_esp.h"

#ifndef CONFIG_MDM_STACK_BYTES /* Arduino has no menu for these: Kconfig has what they mean */
#define CONFIG_MDM_STACK_BYTES 8192
#endif
#ifndef CONFIG_MDM_BUFFER_BYTES
#define CONFIG_MDM_BUFFER_BYTES 8192
#endif
#ifndef CONFIG_MDM_LOG_LEVEL
#define CONFIG_MDM_LOG_LEVEL 2
#endif

/* records.c: one blob each in the NVS partition and namespace `mdm`. Nothing there is ever erased. */
esp_err_t mdm_records_begin(void);
int32_t mdm_records_load(void *context, const char *name, void *data, size_t size);
bool mdm_records_text(const char *name, char *text, size_t capacity); /* a string that the image of NVS has */

/* wifi.c */
/* Joins one of the networks, a JSON array as in the package; NULL: those of the NVS image. Takes up to half a minute, and
 * continues at the next call with the next network. */
bool mdm_wifi_join(const char *networks);
bool mdm_wifi_is_there(void);
void mdm_wifi_describe(struct mdm_facts *facts);
void mdm_wifi_leave_to_program(void);
void mdm_wifi_stop(void); /* before a deep sleep */

/* app.c: app partitions. */
void mdm_app_describe(struct mdm_facts *facts);

/* dump.c: the core dump. */
bool mdm_dump_find(struct mdm_dump *dump);

/* digest.c: SHA-256 of flash, and bytes as text. */
bool mdm_digest(const void *partition, uint32_t offset, size_t size, uint8_t sha256[32]);
void mdm_to_digits(const uint8_t *bytes, size_t size, char *digits);

/* logs.c: what ESP_LOG prints is sent too, from a level on. */
void mdm_logs_begin(void);
#endif
