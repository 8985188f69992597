/* The least firmware: a machine whose `mdm` partition has a claim package gets an identity of its own with it, and is
 * from then on managed: updated, configured and watched. The image of your application comes over the air. */
#include <esp_system.h>
#include <freertos/FreeRTOS.h>
#include <freertos/task.h>
#include <mdm_esp.h>

void app_main(void) {
  if (mdm_esp_start(NULL) == ESP_OK) return;
  vTaskDelay(pdMS_TO_TICKS(10000)); /* the line above has the reason */
  esp_restart();                    /* the bootloader goes back from an image on trial */
}
