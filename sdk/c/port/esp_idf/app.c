/* The running image, and the other app partition. Sectors are erased as the image reaches them, for erasing two
 * megabytes at once would take longer than a broker waits. */
#include <esp_app_desc.h>
#include <esp_log.h>
#include <esp_mac.h>
#include <esp_ota_ops.h>
#include <esp_partition.h>
#include <esp_system.h>
#include <string.h>

#include "board.h"
#include <sdkconfig.h>

enum { SECTOR_BYTES = 4096, BLOCK_BYTES = 16 }; /* encrypted flash is written in blocks of 16 */

static const esp_partition_t *other;
static uint32_t erased_to, written_to;
static uint8_t block[BLOCK_BYTES]; /* the beginning of the next block */

static const char *reason(void) {
  switch (esp_reset_reason()) {
    case ESP_RST_POWERON: return "poweron";
    case ESP_RST_EXT: return "external";
    case ESP_RST_SW: return "software";
    case ESP_RST_PANIC: return "panic";
    case ESP_RST_INT_WDT:
    case ESP_RST_TASK_WDT:
    case ESP_RST_WDT: return "watchdog";
    case ESP_RST_DEEPSLEEP: return "deepsleep";
    case ESP_RST_BROWNOUT: return "brownout";
    default: return "unknown";
  }
}

void mdm_app_describe(struct mdm_facts *facts) {
  static char uid[13], digits[65];
  uint8_t mac[8], sha256[32];
  const esp_app_desc_t *about = esp_app_get_description();
  const esp_partition_t *running = esp_ota_get_running_partition();
  esp_ota_img_states_t state = ESP_OTA_IMG_UNDEFINED;
  facts->firmware_version = about->version;
  facts->project = about->project_name;
  facts->chip = CONFIG_IDF_TARGET;
  facts->chip_id = CONFIG_IDF_FIRMWARE_CHIP_ID;
  facts->reset_reason = reason();
  if (esp_efuse_mac_get_default(mac) == ESP_OK) {
    mdm_to_digits(mac, 6, uid);
    facts->uid = uid;
  }
  if (esp_partition_get_sha256(running, sha256) == ESP_OK) { /* the digest appended to the image */
    mdm_to_digits(sha256, sizeof sha256, digits);
    facts->firmware_sha256 = digits;
  }
  other = esp_ota_get_next_update_partition(NULL);
  if (other == NULL) return; /* a table without app partitions for updates */
  facts->slot_size_bytes = other->size;
  facts->slot = other->subtype == ESP_PARTITION_SUBTYPE_APP_OTA_0 ? 1 : 0; /* the factory's app counts as the one opposite */
  facts->on_trial = esp_ota_get_state_partition(running, &state) == ESP_OK && state == ESP_OTA_IMG_PENDING_VERIFY;
}

bool mdm_app_erase(uint32_t offset, size_t size) {
  (void)size; /* sectors are erased as they are reached */
  erased_to = written_to = offset;
  return other != NULL && offset % SECTOR_BYTES == 0;
}

static bool put(uint32_t offset, const void *data, size_t size) {
  uint32_t end = offset + (uint32_t)size;
  if (end > erased_to) {
    uint32_t more = (end - erased_to + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
    if (esp_partition_erase_range(other, erased_to, more) != ESP_OK) return false;
    erased_to += more;
  }
  return esp_partition_write(other, offset, data, size) == ESP_OK;
}

/* Writes whole blocks, and keeps what is left for the next call. A piece that was interrupted comes again, and may be
 * written over itself; it begins with a block. */
bool mdm_app_write(uint32_t offset, const void *data, size_t size) {
  const uint8_t *at = data;
  if (offset < written_to && offset % BLOCK_BYTES == 0) written_to = offset;
  while (size > 0) {
    size_t whole = size / BLOCK_BYTES * BLOCK_BYTES;
    if (offset == written_to && whole > 0) {
      if (!put(offset, at, whole)) return false;
      written_to += (uint32_t)whole;
    } else {
      if (offset < written_to || offset - written_to >= BLOCK_BYTES) return false;
      whole = 1;
      block[offset - written_to] = *at;
      if (offset + 1 - written_to == BLOCK_BYTES) {
        if (!put(written_to, block, BLOCK_BYTES)) return false;
        written_to += BLOCK_BYTES;
      }
    }
    at += whole;
    offset += (uint32_t)whole;
    size -= whole;
  }
  return true;
}

bool mdm_app_hash(size_t size, uint8_t sha256[32]) {
  if (size > written_to && size - written_to < BLOCK_BYTES) { /* an image that does not end with a block */
    memset(block + (size - written_to), 0xFF, BLOCK_BYTES - (size - written_to));
    if (!put(written_to, block, BLOCK_BYTES)) return false;
    written_to += BLOCK_BYTES;
  }
  return mdm_digest(other, 0, size, sha256);
}

bool mdm_app_select(void) {
  esp_err_t error = esp_ota_set_boot_partition(other); /* which verifies the image, and its signature if one is required */
  if (error != ESP_OK) ESP_LOGE("mdm", "the new image: %s", esp_err_to_name(error));
  return error == ESP_OK;
}

bool mdm_app_keep(void) { return esp_ota_mark_app_valid_cancel_rollback() == ESP_OK; }

void mdm_app_roll_back(void) {
  (void)esp_ota_mark_app_invalid_rollback_and_reboot();
  esp_restart(); /* the bootloader goes back from an image that was not confirmed */
}
