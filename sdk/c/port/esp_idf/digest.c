#include <esp_partition.h>
#include <freertos/FreeRTOS.h>
#include <freertos/task.h>
#include <psa/crypto.h>

#include "board.h"

enum { PIECE_BYTES = 512, BREAK_BYTES = 64 * 1024 };

bool mdm_digest(const void *partition, uint32_t offset, size_t size, uint8_t sha256[32]) {
  psa_hash_operation_t operation = PSA_HASH_OPERATION_INIT;
  uint8_t piece[PIECE_BYTES];
  size_t length;
  bool good = psa_hash_setup(&operation, PSA_ALG_SHA_256) == PSA_SUCCESS;
  while (good && size > 0) {
    size_t some = size < sizeof piece ? size : sizeof piece;
    good = esp_partition_read(partition, offset, piece, some) == ESP_OK &&
           psa_hash_update(&operation, piece, some) == PSA_SUCCESS;
    offset += (uint32_t)some;
    size -= some;
    if (offset % BREAK_BYTES == 0) vTaskDelay(1); /* two megabytes take seconds, in which the watchdog wants to see others */
  }
  good = good && psa_hash_finish(&operation, sha256, 32, &length) == PSA_SUCCESS;
  if (!good) (void)psa_hash_abort(&operation);
  return good;
}

void mdm_to_digits(const uint8_t *bytes, size_t size, char *digits) {
  static const char DIGITS[] = "0123456789abcdef";
  for (size_t i = 0; i < size; i++) {
    *digits++ = DIGITS[bytes[i] >> 4];
    *digits++ = DIGITS[bytes[i] & 15];
  }
  *digits = '\0';
}
