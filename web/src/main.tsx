import { render } from "preact";

import { App } from "./App.tsx";
import { followFleet } from "./state/fleet.ts";
import "./styles.css";

const root = document.getElementById("app");
if (root !== null) {
  followFleet();
  render(<App />, root);
}
