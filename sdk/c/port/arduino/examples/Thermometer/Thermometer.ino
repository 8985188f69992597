/* A thermometer: publishes a temperature every `interval_s` of its configuration, and answers the command `measure`.
 * partitions.csv beside this file has the partition `mdm`; README.md of the library says how to flash the identity. */
#include <Mdm.h>

static volatile unsigned interval_s = 60;

static float celsius() { return 21.5f; }  // your sensor

static String onConfig(const String &json) {
  String text = Mdm.member(json, "interval_s");
  long wanted = text.length() == 0 ? 60 : text.toInt();  // a configuration may leave it out
  if (wanted < 1 || wanted > 86400) return "interval_s: must be 1 to 86400";  // shown to whoever has set it
  interval_s = wanted;
  return "";
}

static bool measure(const String &, String &answer) {
  answer = "{\"celsius\":" + String(celsius(), 1) + "}";
  return true;
}

void setup() {
  Serial.begin(115200);
  Mdm.onConfig(onConfig);
  Mdm.onCommand("measure", measure);
  Mdm.selfTests();
  if (!Mdm.begin()) {
    Serial.println("not a device: see the lines above");
    delay(10000);
    ESP.restart();  // an image on trial is rolled back
  }
}

void loop() {
  float now = celsius();
  if (now > -40 && now < 125) Mdm.healthy();  // the sensor answers: this image may stay
  Mdm.publish("temperature", "{\"celsius\":" + String(now, 1) + "}");
  Mdm.vitals("{\"temperature_celsius\":" + String(now, 1) + "}");  // add your heap, signal, battery
  for (unsigned waited = 0; waited < interval_s; waited++) delay(1000);
}
