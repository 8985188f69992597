/* The least firmware: a machine whose `mdm` partition has a claim package gets an identity of its own with it, and is
 * from then on managed: updated, configured and watched. The image of your application comes over the air. */
#include <mdm_esp.h>

void app_main(void) { ESP_ERROR_CHECK(mdm_esp_start(NULL)); }
