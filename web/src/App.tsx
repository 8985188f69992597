import { useEffect, useRef } from "preact/hooks";

import { Notice } from "./components/basics.tsx";
import { href, path } from "./lib/router.ts";
import { link, logOut } from "./state/session.ts";
import { AuditPage } from "./views/AuditPage.tsx";
import { ConnectionsPage } from "./views/ConnectionsPage.tsx";
import { DevicePage } from "./views/DevicePage.tsx";
import { DevicesPage } from "./views/DevicesPage.tsx";
import { LoginPage } from "./views/LoginPage.tsx";
import { OverviewPage } from "./views/OverviewPage.tsx";
import { RolloutPage } from "./views/RolloutPage.tsx";
import { RolloutsPage } from "./views/RolloutsPage.tsx";
import { RotationPage } from "./views/RotationPage.tsx";

const PAGES = [
  ["", "Overview"],
  ["devices", "Devices"],
  ["rotation", "Rotation"],
  ["rollouts", "Rollouts"],
  ["connections", "Connections"],
  ["audit", "Audit"],
] as const;

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
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href={href()}>
          device-mdm
        </a>
        <nav aria-label="Pages">
          {PAGES.map(([name, title]) => (
            <a
              key={name}
              href={href(...(name ? [name] : []))}
              aria-current={isIn(page, name) ? "page" : undefined}
            >
              {title}
            </a>
          ))}
        </nav>
        <Account />
      </header>
      {link.value.state === "lost" && (
        <Notice tone="warn">
          The connection to the broker is lost; reconnecting. The data shown may be out of date.
        </Notice>
      )}
      <main ref={main} id="main" tabIndex={-1}>
        <Content />
      </main>
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
      <span>{account}</span>
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
  return PAGES.find(([name]) => isIn(page, name))?.[1] ?? "Not found";
}
