export function Boxes() { return null; }
