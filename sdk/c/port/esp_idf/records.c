/* One blob for a record, under two names in turns, and a number for the one in force. NVS alone would not do:
 * it writes the new bytes of a blob and then its index, and if the power is cut between the two, it may drop both the
 * new and the old blob at the next start (seen with ESP-IDF 5.5.5 and 6.0.2). A number is one entry, and is replaced whole. */
#include <esp_log.h>
#include <nvs.h>
#include <nvs_flash.h>
#include <stdio.h>

#include "board.h"

#define MDM_PARTITION "mdm"
#define MDM_NAMESPACE "mdm"

enum { KEY_BYTES = 16, AS_FLASHED = 2 }; /* AS_FLASHED: under its own name, from the image of the partition */

static nvs_handle_t store;

esp_err_t mdm_records_begin(void) {
  esp_err_t error = nvs_flash_init_partition(MDM_PARTITION);
  if (error == ESP_OK) error = nvs_open_from_partition(MDM_PARTITION, MDM_NAMESPACE, NVS_READWRITE, &store);
  /* Whatever is wrong with it, erasing it would lose the identity. */
  if (error != ESP_OK) ESP_LOGE("mdm", "the NVS partition " MDM_PARTITION ": %s", esp_err_to_name(error));
  return error == ESP_ERR_NVS_PART_NOT_FOUND ? ESP_ERR_NOT_FOUND : error;
}

static void name_of(char key[KEY_BYTES], const char *name, const char *suffix) {
  (void)snprintf(key, KEY_BYTES, "%.12s%s", name, suffix);
}

static void key_of(char key[KEY_BYTES], const char *name, uint8_t turn) {
  static const char *const SUFFIXES[] = {".0", ".1", ""};
  name_of(key, name, SUFFIXES[turn]);
}

/* Which blob of a record is in force; ESP_OK also if none is yet. */
static esp_err_t turn_of(const char *name, uint8_t *turn) {
  char key[KEY_BYTES];
  name_of(key, name, ".t");
  *turn = AS_FLASHED;
  esp_err_t error = nvs_get_u8(store, key, turn);
  if (error == ESP_ERR_NVS_NOT_FOUND) return ESP_OK;
  return error == ESP_OK && *turn >= AS_FLASHED ? ESP_ERR_INVALID_STATE : error;
}

int32_t mdm_records_load(void *context, const char *name, void *data, size_t size) {
  char key[KEY_BYTES];
  uint8_t turn;
  (void)context;
  if (turn_of(name, &turn) != ESP_OK) return -1;
  key_of(key, name, turn);
  esp_err_t error = nvs_get_blob(store, key, data, &size);
  if (error == ESP_ERR_NVS_NOT_FOUND && turn == AS_FLASHED) return 0;
  return error == ESP_OK ? (int32_t)size : -1;
}

bool mdm_records_store(const char *name, const void *data, size_t size) {
  char key[KEY_BYTES];
  uint8_t turn, next;
  esp_err_t error = turn_of(name, &turn);
  next = turn == 0 ? 1 : 0;
  key_of(key, name, next);
  if (error == ESP_OK) error = nvs_set_blob(store, key, data, size);
  if (error == ESP_OK) error = nvs_commit(store);
  name_of(key, name, ".t");
  if (error == ESP_OK) error = nvs_set_u8(store, key, next);
  if (error == ESP_OK) error = nvs_commit(store);
  if (error != ESP_OK) {
    ESP_LOGE("mdm", "the record %s: %s", name, esp_err_to_name(error));
    return false;
  }
  key_of(key, name, turn); /* makes room; what is left by a power cut here is replaced the next time */
  if (nvs_erase_key(store, key) == ESP_OK) (void)nvs_commit(store);
  return true;
}

bool mdm_records_text(const char *name, char *text, size_t capacity) {
  return nvs_get_str(store, name, text, &capacity) == ESP_OK;
}
