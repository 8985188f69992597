/* The core dump in flash. ESP-IDF keeps only the first digits of the ELF file that crashed: the whole is in the
 * descriptor of the app partition that begins with them. */
#include "board.h"
#include "broker.h"
#include <sdkconfig.h>

#if CONFIG_ESP_COREDUMP_ENABLE_TO_FLASH
#include <esp_core_dump.h>
#include <esp_log.h>
#include <esp_ota_ops.h>
#include <esp_partition.h>
#include <stdlib.h>
#include <string.h>

static const esp_partition_t *partition;
static char elf[65], version[33], reason[100];

static bool is_of(const esp_partition_t *app, const char *first_digits) {
  esp_app_desc_t about;
  if (app == NULL || esp_ota_get_partition_description(app, &about) != ESP_OK) return false;
  mdm_to_digits(about.app_elf_sha256, sizeof about.app_elf_sha256, elf);
  memcpy(version, about.version, sizeof about.version);
  return strncmp(elf, first_digits, strlen(first_digits)) == 0;
}

bool mdm_dump_find(struct mdm_dump *dump) {
  size_t address, size;
  partition = esp_partition_find_first(ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_DATA_COREDUMP, NULL);
  if (partition == NULL || esp_core_dump_image_check() != ESP_OK || esp_core_dump_image_get(&address, &size) != ESP_OK)
    return false;
  esp_core_dump_summary_t *summary = calloc(1, sizeof *summary);
  bool good = summary != NULL && esp_core_dump_get_summary(summary) == ESP_OK;
  const char *digits = good ? (const char *)summary->app_elf_sha256 : "";
  good = good && digits[0] != '\0' &&
         (is_of(esp_ota_get_running_partition(), digits) || is_of(esp_ota_get_next_update_partition(NULL), digits)) &&
         mdm_digest(partition, (uint32_t)(address - partition->address), size, dump->sha256);
  free(summary);
  if (!good) {
    ESP_LOGW("mdm", "the core dump is of an image that is no longer here, or cannot be read");
    return false;
  }
  if (esp_core_dump_get_panic_reason(reason, sizeof reason) == ESP_OK) dump->reason = reason;
  dump->size = (uint32_t)size;
  dump->elf_sha256 = elf;
  dump->firmware_version = version;
  return true;
}

bool mdm_line_read_dump(uint32_t offset, void *data, size_t size) {
  return partition != NULL && esp_partition_read(partition, offset, data, size) == ESP_OK;
}

bool mdm_dump_erase(void) { return esp_core_dump_image_erase() == ESP_OK; }
#else
bool mdm_dump_find(struct mdm_dump *dump) {
  (void)dump;
  return false;
}

bool mdm_line_read_dump(uint32_t offset, void *data, size_t size) {
  (void)offset;
  (void)data;
  (void)size;
  return false;
}

bool mdm_dump_erase(void) { return false; }
#endif
