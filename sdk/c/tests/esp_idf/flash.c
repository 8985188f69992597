/* NVS, the app partitions, the bootloader and the core dump of the board of files. Flash is as strict as the real one:
 * bits become 0 only, sectors are erased whole, and writes are blocks of 16, as encrypted flash wants them. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../port/posix/posix.h"
#include "board.h"
#include "declared.h"

enum { SECTOR = 4096, BLOCK = 16, APP_BYTES = 1536 * 1024, DESCRIPTOR_AT = 32, IMAGE_BYTES = 64 * 1024 };

static const esp_partition_t APPS[] = {{ESP_PARTITION_SUBTYPE_APP_OTA_0, 0x10000, APP_BYTES},
                                       {ESP_PARTITION_SUBTYPE_APP_OTA_1, 0x190000, APP_BYTES}};
static const esp_partition_t DUMP = {ESP_PARTITION_SUBTYPE_DATA_COREDUMP, 0x310000, 0x10000};
static struct boot {
  uint8_t active, on_trial, starts;
} boot;

static void must(bool truth, const char *rule) {
  if (truth) return;
  (void)fprintf(stderr, "the flash was used wrongly: %s\n", rule);
  abort();
}

/* ---- NVS ---- */

esp_err_t nvs_flash_init_partition(const char *label) { return strcmp(label, "mdm") == 0 ? ESP_OK : ESP_ERR_NVS_PART_NOT_FOUND; }

esp_err_t nvs_open_from_partition(const char *label, const char *name, nvs_open_mode_t mode, nvs_handle_t *handle) {
  must(strcmp(label, "mdm") == 0 && strcmp(name, "mdm") == 0 && mode == NVS_READWRITE, "the partition and namespace mdm");
  *handle = 1;
  return ESP_OK;
}

esp_err_t nvs_get_blob(nvs_handle_t handle, const char *key, void *value, size_t *length) {
  must(handle == 1 && strlen(key) < 16, "a key has at most 15 characters");
  int32_t found = files_read(key, value, *length);
  *length = found > 0 ? (size_t)found : 0;
  return found == 0 ? ESP_ERR_NVS_NOT_FOUND : found < 0 ? ESP_FAIL : ESP_OK;
}

esp_err_t nvs_get_str(nvs_handle_t handle, const char *key, char *value, size_t *length) {
  return nvs_get_blob(handle, key, value, length); /* with its NUL */
}

/* A blob that replaces one of its name may leave neither at a power cut, as NVS of ESP-IDF 5.5.5 does it. */
esp_err_t nvs_set_blob(nvs_handle_t handle, const char *key, const void *value, size_t length) {
  must(handle == 1 && strlen(key) < 16, "a key has at most 15 characters");
  (void)nvs_erase_key(handle, key);
  return files_write(key, value, length) ? ESP_OK : ESP_FAIL;
}

esp_err_t nvs_erase_key(nvs_handle_t handle, const char *key) {
  char path[4096];
  must(handle == 1 && strlen(key) < 16, "a key has at most 15 characters");
  files_path(path, key);
  if (access(path, F_OK) != 0) return ESP_ERR_NVS_NOT_FOUND;
  files_fault(key, "before");
  bool good = unlink(path) == 0;
  files_fault(key, "erased");
  return good ? ESP_OK : ESP_FAIL;
}

esp_err_t nvs_get_u8(nvs_handle_t handle, const char *key, uint8_t *value) {
  size_t length = 1;
  return nvs_get_blob(handle, key, value, &length);
}

esp_err_t nvs_set_u8(nvs_handle_t handle, const char *key, uint8_t value) {
  must(handle == 1 && strlen(key) < 16, "a key has at most 15 characters");
  return files_write(key, &value, 1) ? ESP_OK : ESP_FAIL;
}

esp_err_t nvs_commit(nvs_handle_t handle) { return handle == 1 ? ESP_OK : ESP_FAIL; }

/* ---- Partitions ---- */

static int open_file(const esp_partition_t *it) {
  char path[4096];
  files_path(path, it == &APPS[0] ? "ota_0.bin" : it == &APPS[1] ? "ota_1.bin" : "coredump.bin");
  return open(path, it == &DUMP ? O_RDWR : O_RDWR | O_CREAT, 0600);
}

const esp_partition_t *esp_partition_find_first(esp_partition_type_t type, esp_partition_subtype_t subtype, const char *label) {
  must(type == ESP_PARTITION_TYPE_DATA && subtype == DUMP.subtype && label == NULL, "only the core dump is looked for");
  return &DUMP;
}

esp_err_t esp_partition_read(const esp_partition_t *it, size_t offset, void *data, size_t size) {
  int file = open_file(it);
  bool good = file >= 0 && pread(file, data, size, (off_t)offset) == (ssize_t)size;
  if (file >= 0) (void)close(file);
  return good ? ESP_OK : ESP_FAIL;
}

static esp_err_t put(const esp_partition_t *it, size_t offset, const void *data, size_t size) {
  int file = open_file(it);
  bool good = file >= 0 && pwrite(file, data, size, (off_t)offset) == (ssize_t)size && fsync(file) == 0;
  if (file >= 0) (void)close(file);
  return good ? ESP_OK : ESP_FAIL;
}

esp_err_t esp_partition_erase_range(const esp_partition_t *it, size_t offset, size_t size) {
  uint8_t blank[SECTOR];
  must(offset % SECTOR == 0 && size % SECTOR == 0 && offset + size <= it->size, "sectors are erased whole");
  must(it == &APPS[1 - boot.active], "only the other app partition is erased");
  memset(blank, 0xFF, sizeof blank);
  files_fault("flash", "before");
  for (; size > 0; offset += SECTOR, size -= SECTOR)
    if (put(it, offset, blank, SECTOR) != ESP_OK) return ESP_FAIL;
  files_fault("flash", "after");
  return ESP_OK;
}

esp_err_t esp_partition_write(const esp_partition_t *it, size_t offset, const void *data, size_t size) {
  uint8_t *there = malloc(size);
  must(offset % BLOCK == 0 && size % BLOCK == 0, "blocks of 16 are written");
  must(there != NULL && esp_partition_read(it, offset, there, size) == ESP_OK, "what is written was erased before");
  for (size_t i = 0; i < size; i++) must((there[i] & ((const uint8_t *)data)[i]) == ((const uint8_t *)data)[i], "bits become 0 only");
  free(there);
  return put(it, offset, data, size);
}

/* The digest behind the image: esp_image_header_t, segments of esp_image_segment_header_t, a checksum in 16 bytes. */
esp_err_t esp_partition_get_sha256(const esp_partition_t *it, uint8_t *sha256) {
  uint8_t head[24];
  uint32_t segment[2], at = sizeof head;
  if (esp_partition_read(it, 0, head, sizeof head) != ESP_OK || head[0] != 0xE9 || head[23] != 1) return ESP_FAIL;
  for (unsigned i = 0; i < head[1]; i++) {
    if (esp_partition_read(it, at, segment, sizeof segment) != ESP_OK) return ESP_FAIL;
    at += (uint32_t)sizeof segment + segment[1];
  }
  return esp_partition_read(it, (at / BLOCK + 1) * BLOCK, sha256, 32);
}

static esp_err_t describe(const esp_partition_t *it, esp_app_desc_t *about) {
  uint8_t bytes[176];
  if (esp_partition_read(it, DESCRIPTOR_AT, bytes, sizeof bytes) != ESP_OK) return ESP_ERR_NOT_FOUND;
  memcpy(about->version, bytes + 16, 32);
  memcpy(about->project_name, bytes + 48, 32);
  memcpy(about->app_elf_sha256, bytes + 144, 32);
  return ESP_OK;
}

/* ---- The bootloader ---- */

static bool keep(uint8_t active, uint8_t on_trial) {
  boot = (struct boot){active, on_trial, 0};
  return files_write("boot", &boot, sizeof boot);
}

bool board_boot(const char *image) {
  static uint8_t bytes[IMAGE_BYTES];
  int32_t size = image == NULL ? 0 : files_load(image, bytes, sizeof bytes);
  if (files_read("boot", &boot, sizeof boot) != (int32_t)sizeof boot)
    return size > 0 && files_write("ota_0.bin", bytes, (size_t)size) && keep(0, false);
  if (!boot.on_trial) return true;
  if (boot.starts > 0) return keep(1 - boot.active, false); /* ESP_OTA_IMG_ABORTED */
  boot.starts = 1;
  return files_write("boot", &boot, sizeof boot);
}

const esp_partition_t *esp_ota_get_running_partition(void) { return &APPS[boot.active]; }

const esp_partition_t *esp_ota_get_next_update_partition(const esp_partition_t *from) {
  must(from == NULL, "the one after the running one");
  return &APPS[1 - boot.active];
}

const esp_app_desc_t *esp_app_get_description(void) {
  static esp_app_desc_t about;
  must(describe(&APPS[boot.active], &about) == ESP_OK, "the running image has a descriptor");
  return &about;
}

esp_err_t esp_ota_get_partition_description(const esp_partition_t *it, esp_app_desc_t *about) { return describe(it, about); }

esp_err_t esp_ota_get_state_partition(const esp_partition_t *it, esp_ota_img_states_t *state) {
  bool tried = it == &APPS[boot.active] && boot.on_trial;
  *state = tried ? ESP_OTA_IMG_PENDING_VERIFY : ESP_OTA_IMG_UNDEFINED;
  return ESP_OK;
}

esp_err_t esp_ota_set_boot_partition(const esp_partition_t *it) {
  esp_app_desc_t about;
  if (describe(it, &about) != ESP_OK) return ESP_FAIL;
  return keep(it == &APPS[1], true) ? ESP_OK : ESP_FAIL;
}

esp_err_t esp_ota_mark_app_valid_cancel_rollback(void) { return keep(boot.active, false) ? ESP_OK : ESP_FAIL; }

esp_err_t esp_ota_mark_app_invalid_rollback_and_reboot(void) {
  if (keep(1 - boot.active, false)) board_restart();
  return ESP_FAIL;
}

/* ---- The core dump: the first digits of the ELF file's SHA-256, 9 characters, then the memory ---- */

static off_t dump_size(void) {
  int file = open_file(&DUMP);
  off_t size = file < 0 ? 0 : lseek(file, 0, SEEK_END);
  if (file >= 0) (void)close(file);
  return size;
}

esp_err_t esp_core_dump_image_check(void) { return dump_size() > 9 ? ESP_OK : ESP_ERR_NOT_FOUND; }

esp_err_t esp_core_dump_image_get(size_t *address, size_t *size) {
  *address = DUMP.address;
  *size = (size_t)dump_size();
  return ESP_OK;
}

esp_err_t esp_core_dump_get_summary(esp_core_dump_summary_t *summary) {
  memset(summary, 0, sizeof *summary);
  return esp_partition_read(&DUMP, 0, summary->app_elf_sha256, 9);
}

esp_err_t esp_core_dump_get_panic_reason(char *reason, size_t size) {
  (void)snprintf(reason, size, "assert failed");
  return ESP_OK;
}

esp_err_t esp_core_dump_image_erase(void) {
  char path[4096];
  files_path(path, "coredump.bin");
  return unlink(path) == 0 ? ESP_OK : ESP_FAIL;
}
