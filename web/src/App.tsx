import { useEffect, useRef, useState } from "preact/hooks";

import { Notice } from "./components/basics.tsx";
import { href, path } from "./lib/router.ts";
import { link, logOut, role } from "./state/session.ts";
import { AccountsPage } from "./views/AccountsPage.tsx";
import { AuditPage } from "./views/AuditPage.tsx";
import { ClaimsPage } from "./views/ClaimsPage.tsx";
import { CommandsPage } from "./views/CommandsPage.tsx";
import { ConnectionsPage } from "./views/ConnectionsPage.tsx";
import { DevicePage } from "./views/DevicePage.tsx";
import { DevicesPage } from "./views/devices/DevicesPage.tsx";
import { DoctorPage } from "./views/DoctorPage.tsx";
import { FirmwarePage } from "./views/firmware/FirmwarePage.tsx";
import { LayersPage } from "./views/LayersPage.tsx";
import { LogPage } from "./views/LogPage.tsx";
import { LoginPage } from "./views/LoginPage.tsx";
import { ModelsPage } from "./views/models/ModelsPage.tsx";
import { NotificationsPage } from "./views/NotificationsPage.tsx";
import { OverviewPage } from "./views/OverviewPage.tsx";
import { RolloutPage } from "./views/RolloutPage.tsx";
import { RolloutsPage } from "./views/RolloutsPage.tsx";
import { RotationPage } from "./views/RotationPage.tsx";

/** The pages by groups, in the order of the menu. */
const PAGES: readonly (readonly [group: string, pages: readonly (readonly [name: string, title: string])[]])[] = [
  [
    "Fleet",
    [
      ["", "Overview"],
      ["devices", "Devices"],
      ["commands", "Commands"],
      ["log", "Log"],
    ],
  ],
  [
    "Make",
    [
      ["models", "Models"],
      ["layers", "Layers"],
      ["firmware", "Firmware"],
      ["rollouts", "Rollouts"],
    ],
  ],
  [
    "Security",
    [
      ["claims", "Claims"],
      ["rotation", "Rotation"],
      ["connections", "Connections"],
    ],
  ],
  [
    "System",
    [
      ["notifications", "Notifications"],
      ["audit", "Audit"],
      ["accounts", "Accounts"],
      ["doctor", "Doctor"],
    ],
  ],
];

export function App() {
  const { state } = link.value;
  return state === "out" || state === "connecting" ? <LoginPage /> : <Frame />;
}

function Frame() {
  const [page = ""] = path.value;
  const main = useRef<HTMLElement>(null);
  const address = path.value.join("/");
  useEffect(() => {
    document.title = `${titleOf(page)} · device-mdm`;
    main.current?.focus({ preventScroll: true });
  }, [address]);
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href={href()}>
          device-mdm
        </a>
        <Menu page={page} />
        <Account />
      </header>
      <main ref={main} id="main" tabIndex={-1}>
        {link.value.state === "lost" && (
          <Notice tone="warn">
            The connection to the broker is lost; reconnecting. The data shown may be out of date.
          </Notice>
        )}
        <Content />
      </main>
    </div>
  );
}

/** Open on a wide screen; on a narrow one it is opened by its button. */
function Menu({ page }: { page: string }) {
  const [isOpen, open] = useState(false);
  return (
    <>
      <button type="button" class="menu" aria-expanded={isOpen} onClick={() => open(!isOpen)}>
        Menu
      </button>
      <nav aria-label="Pages" class={isOpen ? "open" : ""}>
        {PAGES.map(([group, pages]) => (
          <div key={group} role="group" aria-label={group}>
            <span aria-hidden="true">{group}</span>
            {pages.map(([name, title]) => (
              <a
                key={name}
                href={href(...(name ? [name] : []))}
                aria-current={isIn(page, name) ? "page" : undefined}
                onClick={() => open(false)}
              >
                {title}
              </a>
            ))}
          </div>
        ))}
      </nav>
    </>
  );
}

function Account() {
  const here = link.value;
  const account = here.state === "out" ? "" : here.account;
  return (
    <div class="account">
      <span
        class={`dot ${here.state === "up" ? "good" : "warn"}`}
        title={here.state === "up" ? "connected" : "lost"}
      />
      <span>
        {account} {role.value && role.value !== "admin" && <small>{role.value}</small>}
      </span>
      <button type="button" class="plain" onClick={() => logOut()}>
        Log out
      </button>
    </div>
  );
}

function Content() {
  const [page = "", ...rest] = path.value;
  switch (page) {
    case "":
      return <OverviewPage />;
    case "devices":
      return <DevicesPage key={rest.join(" ")} query={rest} />;
    case "device":
      return <DevicePage clientId={rest[0] ?? ""} tab={rest[1] ?? "configuration"} />;
    case "rotation":
      return <RotationPage />;
    case "rollouts":
      return <RolloutsPage />;
    case "rollout":
      return <RolloutPage rollout={Number(rest[0])} />;
    case "connections":
      return <ConnectionsPage />;
    case "models":
      return <ModelsPage />;
    case "layers":
      return <LayersPage />;
    case "firmware":
      return <FirmwarePage />;
    case "claims":
      return <ClaimsPage />;
    case "commands":
      return <CommandsPage />;
    case "log":
      return <LogPage />;
    case "notifications":
      return <NotificationsPage />;
    case "accounts":
      return <AccountsPage />;
    case "doctor":
      return <DoctorPage />;
    case "audit":
      return <AuditPage subject={rest[0] ?? ""} />;
    default:
      return (
        <Notice tone="warn">
          Page not found. <a href={href()}>Go to the overview.</a>
        </Notice>
      );
  }
}

function isIn(page: string, name: string): boolean {
  return page === name || (name !== "" && `${page}s` === name);
}

function titleOf(page: string): string {
  return PAGES.flatMap(([, pages]) => pages).find(([name]) => isIn(page, name))?.[1] ?? "Not found";
}
