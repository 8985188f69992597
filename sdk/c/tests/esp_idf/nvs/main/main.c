/* Cuts the power after some word that the NVS of ESP-IDF writes, again and again, on its own flash for Linux:
 *
 *     idf.py --preview set-target linux build && build/nvs.elf
 *
 * A record must be the old or the new one after each cut, and no other may change. The same is done to plain blobs under
 * their own names, of which some are lost: that shows that the cuts are where it matters. */
#include <esp_partition.h>
#include <esp_private/partition_linux.h>
#include <nvs.h>
#include <nvs_flash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"

enum { CUTS = 27700, RECORDS = 4, LONGEST = 4600, MORE_WORDS = 64 };

static const struct {
  const char *name;
  size_t size;
} SHAPES[RECORDS] = {{"identity", 700}, {"journal", 40}, {"place1", LONGEST}, {"result7", 500}};

/* ---- Power: once it has failed, nothing reaches the flash any more. ---- */

static esp_err_t seen(esp_err_t error) {
  if (error != ESP_OK) esp_partition_fail_after(0, ESP_PARTITION_FAIL_AFTER_MODE_BOTH);
  return error;
}

esp_err_t __real_esp_partition_write_raw(const esp_partition_t *it, size_t at, const void *data, size_t size);
esp_err_t __wrap_esp_partition_write_raw(const esp_partition_t *it, size_t at, const void *data, size_t size) {
  return seen(__real_esp_partition_write_raw(it, at, data, size));
}

esp_err_t __real_esp_partition_write(const esp_partition_t *it, size_t at, const void *data, size_t size);
esp_err_t __wrap_esp_partition_write(const esp_partition_t *it, size_t at, const void *data, size_t size) {
  return seen(__real_esp_partition_write(it, at, data, size));
}

esp_err_t __real_esp_partition_erase_range(const esp_partition_t *it, size_t at, size_t size);
esp_err_t __wrap_esp_partition_erase_range(const esp_partition_t *it, size_t at, size_t size) {
  return seen(__real_esp_partition_erase_range(it, at, size));
}

/* ---- The two ways to keep a record ---- */

static nvs_handle_t plain;

static esp_err_t plain_begin(void) {
  esp_err_t error = nvs_flash_init_partition("plain");
  return error == ESP_OK ? nvs_open_from_partition("plain", "mdm", NVS_READWRITE, &plain) : error;
}

static int32_t plain_load(void *context, const char *name, void *data, size_t size) {
  (void)context;
  return nvs_get_blob(plain, name, data, &size) == ESP_OK ? (int32_t)size : 0;
}

static bool plain_store(const char *name, const void *data, size_t size) {
  return nvs_set_blob(plain, name, data, size) == ESP_OK && nvs_commit(plain) == ESP_OK;
}

static const struct way {
  const char *partition;
  esp_err_t (*begin)(void);
  int32_t (*load)(void *context, const char *name, void *data, size_t size);
  bool (*store)(const char *name, const void *data, size_t size);
} WAYS[] = {{"mdm", mdm_records_begin, mdm_records_load, mdm_records_store}, {"plain", plain_begin, plain_load, plain_store}};

/* ---- The run ---- */

static uint8_t bytes[LONGEST];

static void fill(unsigned record, unsigned version) {
  memset(bytes, (int)(version & 0xFF), SHAPES[record].size);
  memcpy(bytes, &version, sizeof version);
}

/* Returns the version that is stored of a record, 0 if there is none or it is no whole one. */
static unsigned found(const struct way *way, unsigned record) {
  static uint8_t there[LONGEST];
  unsigned version;
  if (way->load(NULL, SHAPES[record].name, there, sizeof there) != (int32_t)SHAPES[record].size) return 0;
  memcpy(&version, there, sizeof version);
  fill(record, version);
  return memcmp(there, bytes, SHAPES[record].size) == 0 ? version : 0;
}

static void must(bool truth, const char *rule) {
  if (truth) return;
  (void)printf("%s\n", rule);
  exit(1);
}

/* Stores records, of which each is new or old after a power cut; returns how many were neither. */
static unsigned lost(const struct way *way) {
  unsigned versions[RECORDS] = {0}, next = 1, gone = 0;
  must(way->begin() == ESP_OK, "the partition cannot be opened");
  for (unsigned cut = 0; cut < CUTS;) {
    unsigned record = (unsigned)rand() % RECORDS;
    size_t words = (size_t)rand() % (SHAPES[record].size / 4 + MORE_WORDS);
    fill(record, ++next);
    esp_partition_fail_after(words, ESP_PARTITION_FAIL_AFTER_MODE_BOTH);
    bool stored = way->store(SHAPES[record].name, bytes, SHAPES[record].size);
    esp_partition_fail_after(SIZE_MAX, ESP_PARTITION_FAIL_AFTER_MODE_BOTH);
    must(nvs_flash_deinit_partition(way->partition) == ESP_OK, "the partition cannot be closed");
    must(way->begin() == ESP_OK, "the partition cannot be opened after a power cut");
    cut += !stored;
    for (unsigned each = 0; each < RECORDS; each++) {
      unsigned version = found(way, each);
      bool good = version == versions[each] || (each == record && version == next);
      gone += !good;
      versions[each] = version;
    }
    must(!stored || versions[record] == next, "a record that was stored is not there");
  }
  return gone;
}

void app_main(void) {
  unsigned bad = 0;
  for (unsigned i = 0; i < sizeof WAYS / sizeof WAYS[0]; i++) {
    unsigned gone = lost(&WAYS[i]);
    (void)printf("%s: %u power cuts, %u records lost\n", WAYS[i].partition, (unsigned)CUTS, gone);
    bad += (gone == 0) != (i == 0);
  }
  exit(bad > 0);
}
