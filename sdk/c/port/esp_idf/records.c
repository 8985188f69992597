#include <esp_log.h>
#include <nvs.h>
#include <nvs_flash.h>

#include "board.h"

#define MDM_PARTITION "mdm"
#define MDM_NAMESPACE "mdm"

static nvs_handle_t store;

esp_err_t mdm_records_begin(void) {
  esp_err_t error = nvs_flash_init_partition(MDM_PARTITION);
  if (error == ESP_OK) error = nvs_open_from_partition(MDM_PARTITION, MDM_NAMESPACE, NVS_READWRITE, &store);
  /* Whatever is wrong with it, erasing it would lose the identity. */
  if (error != ESP_OK) ESP_LOGE("mdm", "the NVS partition " MDM_PARTITION ": %s", esp_err_to_name(error));
  return error == ESP_ERR_NVS_PART_NOT_FOUND ? ESP_ERR_NOT_FOUND : error;
}

int32_t mdm_records_load(void *context, const char *name, void *data, size_t size) {
  (void)context;
  esp_err_t error = nvs_get_blob(store, name, data, &size);
  if (error == ESP_ERR_NVS_NOT_FOUND) return 0;
  return error == ESP_OK ? (int32_t)size : -1;
}

bool mdm_records_store(const char *name, const void *data, size_t size) {
  esp_err_t error = nvs_set_blob(store, name, data, size);
  if (error == ESP_OK) error = nvs_commit(store);
  if (error != ESP_OK) ESP_LOGE("mdm", "the record %s: %s", name, esp_err_to_name(error));
  return error == ESP_OK;
}

bool mdm_records_text(const char *name, char *text, size_t capacity) {
  return nvs_get_str(store, name, text, &capacity) == ESP_OK;
}
