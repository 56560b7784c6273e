// Our own icons: a few strokes each, drawn on 24 by 24.

const PATHS = {
  wall: "M4 5h7v6H4zM13 5h7v6h-7zM4 13h7v6H4zM13 13h7v6h-7z",
  places: "M4 20V9l8-5 8 5v11M9 20v-6h6v6",
  map: "M9 5 4 7v13l5-2 6 2 5-2V5l-5 2zM9 5v13M15 7v13",
  alerts: "M6 17V11a6 6 0 0 1 12 0v6l2 2H4zM10 21h4",
  reports: "M4 20h16M7 20v-7M12 20V6M17 20v-10",
  boxes: "M4 8h16v10H4zM7 15h.01M10 15h.01M8 8V5M16 8V5",
  audit: "M6 4h12v16H6zM9 9h6M9 13h6M9 17h3",
  users: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM3 20c0-3.5 2.5-6 6-6s6 2.5 6 6M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14.5c2 .8 3 2.800 3 5.500",
  manage: "M4 7h9M17 7h3M15 9.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM4 17h3M11 17h9M9 19.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5z",
  account: "M12 11.500a3.800 3.800 0 1 0 0-7.500 3.800 3.800 0 0 0 0 7.500zM5 20c0-3.800 3-6 7-6s7 2.200 7 6",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  close: "M6 6l12 12M18 6 6 18",
  check: "M5 12.500 10 17.500 19 7",
  bar: "M6 12h12",
  question: "M9 9a3 3 0 1 1 4.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 18h.01",
  warn: "M12 4 2.500 20h19zM12 10v4M12 17h.01",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.500 2",
  jam: "M4 8h16M4 12h16M4 16h16",
  dense: "M4 9h16M4 15h16",
  free: "M4 12h13M13 8l4 4-4 4",
  people: "M8 10a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM16 10a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM4 19c0-3 1.500-5.500 4-5.500s4 2.500 4 5.500M12 19c0-3 1.500-5.500 4-5.500s4 2.500 4 5.500",
  silent: "M4 4l16 16M9 9H5v6h4l5 4v-5M14 9V5l-3 2.400",
  down: "M4 4l16 16M7 7H4v11h13M11 7h6v4l4-3v9",
  dark: "M19 14.500A8 8 0 1 1 10 4.500a6.500 6.500 0 0 0 9 10z",
  tamper: "M4 4l16 16M10 6.500A9 9 0 0 1 21 12a13 13 0 0 1-3 3.800M6.500 8A13 13 0 0 0 3 12c1.800 3.500 5 6 9 6 1.200 0 2.400-.2 3.500-.6M10 10.500a2.800 2.800 0 0 0 3.800 3.800",
  play: "M8 5l11 7-11 7z",
  stop: "M7 7h10v10H7z",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  pin: "M12 21s7-6.500 7-11.500A7 7 0 0 0 5 9.500C5 14.500 12 21 12 21zM12 12a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5z",
  tool: "M5 19l8-8M14 4a5 5 0 0 0-1 6l1 1 1 1a5 5 0 0 0 5-7l-3 3-2.500-.5L14 5.500z",
  print: "M7 9V4h10v5M5 9h14v8h-2M7 14h10v6H7zM5 9v8h2",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  lock: "M6 11h12v9H6zM9 11V8a3 3 0 0 1 6 0v3",
  seal: "M12 3l7 3v6c0 4.500-3 7.500-7 9-4-1.500-7-4.500-7-9V6zM8.500 12l2.500 2.500 4.500-5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  send: "M4 12 20 5l-5 15-3.500-6.500z",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
} as const;

export type IconName = keyof typeof PATHS;

export const Icon = (props: { name: IconName }) => (
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <path d={PATHS[props.name]} />
  </svg>
);
