/* All declarations, for cffi. */
#include "mdm_mqtt.h"

#include "core.h"
