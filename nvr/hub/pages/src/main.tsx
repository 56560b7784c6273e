// Start: who is asking, then the page of this address; and the pulse that every age on the page is counted from.

import { render } from "preact";
import { ErrorBoundary, LocationProvider, Route, Router, lazy, useLocation } from "preact-iso";
import { useEffect } from "preact/hooks";
import "./style.css";
import { ApiFault, ask, isMayor, listen, session, type Session } from "./api";
import { Shell } from "./parts/shell";
import { Empty, Loading } from "./parts/small";
import { Login } from "./pages/login";
import { Enter } from "./pages/enter";
import { beat } from "./pulse";
import { welcome } from "./who";
import { t } from "./words";

// The wall is what opens first on a slow link; everything else comes when somebody goes there.
import { Wall } from "./pages/wall";

const Places = lazy(() => import("./pages/places").then((page) => page.Places));
const PlacePage = lazy(() => import("./pages/place").then((page) => page.PlacePage));
const MapPage = lazy(() => import("./pages/map").then((page) => page.MapPage));
const CameraPage = lazy(() => import("./pages/camera").then((page) => page.CameraPage));
const Alerts = lazy(() => import("./pages/alerts").then((page) => page.Alerts));
const AlertPage = lazy(() => import("./pages/alert").then((page) => page.AlertPage));
const Reports = lazy(() => import("./pages/reports").then((page) => page.Reports));
const Boxes = lazy(() => import("./pages/boxes").then((page) => page.Boxes));
const Audit = lazy(() => import("./pages/audit").then((page) => page.Audit));
const Users = lazy(() => import("./pages/users").then((page) => page.Users));
const Holds = lazy(() => import("./pages/holds").then((page) => page.Holds));
const Requests = lazy(() => import("./pages/requests").then((page) => page.Requests));
const RequestPage = lazy(() => import("./pages/request").then((page) => page.RequestPage));
const Tokens = lazy(() => import("./pages/tokens").then((page) => page.Tokens));
const Webhooks = lazy(() => import("./pages/webhooks").then((page) => page.Webhooks));
const Notifications = lazy(() => import("./pages/notifications").then((page) => page.Notifications));
const Updates = lazy(() => import("./pages/updates").then((page) => page.Updates));
const Account = lazy(() => import("./pages/account").then((page) => page.Account));

/** The mayor begins with the places, everybody else with the cameras. */
function Home() {
  const { route } = useLocation();
  useEffect(() => route(isMayor() ? "/places" : "/wall", true), []);
  return <Loading />;
}

const NotFound = () => <Empty title={t("notFound")} hint={t("notFoundHint")} link={["/wall", t("toWall")]} />;

function Inside() {
  const who = session.value;
  const { path } = useLocation();
  if (path === "/enter") return <Enter />;
  if (who === undefined) return <Loading />;
  if (who === null) return <Login />;
  return (
    <Shell>
      <ErrorBoundary>
        <Router>
          <Route path="/" component={Home} />
          <Route path="/login" component={Home} />
          <Route path="/wall" component={Wall} />
          <Route path="/places" component={Places} />
          <Route path="/places/:name" component={PlacePage} />
          <Route path="/map" component={MapPage} />
          <Route path="/cameras/:id" component={CameraPage} />
          <Route path="/alerts" component={Alerts} />
          <Route path="/alerts/:id" component={AlertPage} />
          <Route path="/reports" component={Reports} />
          <Route path="/boxes" component={Boxes} />
          <Route path="/audit" component={Audit} />
          <Route path="/users" component={Users} />
          <Route path="/holds" component={Holds} />
          <Route path="/requests" component={Requests} />
          <Route path="/requests/:id" component={RequestPage} />
          <Route path="/tokens" component={Tokens} />
          <Route path="/webhooks" component={Webhooks} />
          <Route path="/notifications" component={Notifications} />
          <Route path="/updates" component={Updates} />
          <Route path="/account" component={Account} />
          <Route default component={NotFound} />
        </Router>
      </ErrorBoundary>
    </Shell>
  );
}

async function whoAmI(): Promise<void> {
  try {
    welcome(await ask<Session>("/session"));
  } catch (error) {
    // Only the hub can say that nobody is logged in. While it does not answer, go on asking.
    if (error instanceof ApiFault && (error.status === 401 || error.status === 403)) session.value = null;
    else setTimeout(() => void whoAmI(), 2000);
  }
}

beat();
listen();
void whoAmI();
render(
  <LocationProvider>
    <Inside />
  </LocationProvider>,
  document.getElementById("page")!,
);
