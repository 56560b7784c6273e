"""The card's `network.yaml`: how the box reaches its LAN. Read strictly, turned into what systemd-networkd, iwd and chrony read.

Nothing needs to be written: without a file every wired port asks for an address (DHCP) and has one of the link-local range besides,
so a laptop on the same cable finds the box as NAME.local even where nobody hands out addresses.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

import yaml

from nvr.site_kinds import Key, Text, Wrong, scalar, shown
from nvr.site_yaml import Fault, Reader, compose, line_of


@dataclass(frozen=True, slots=True)
class Interface:
    """An address with its prefix, in the form 10.0.0.5/24."""

    def read(self, node: yaml.Node, name: str) -> str:
        text = scalar(node, "an address").strip()
        try:
            found = ipaddress.ip_interface(text)
        except ValueError:
            found = None
        if found is None or "/" not in text:
            raise Wrong(f"{shown(text)} is not an address with its prefix", f"{name}: 192.168.1.20/24")
        return text

    def form(self) -> str:
        return "an address with its prefix such as `192.168.1.20/24`"


@dataclass(frozen=True, slots=True)
class Address:
    def read(self, node: yaml.Node, name: str) -> str:
        text = scalar(node, "an address").strip()
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            raise Wrong(f"{shown(text)} is not an IP address", f"{name}: 192.168.1.1") from None

    def form(self) -> str:
        return "an IP address"


@dataclass(frozen=True, slots=True)
class Hosts:
    """A list of host names or addresses."""

    def read(self, node: yaml.Node, name: str) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise Wrong("must be a list", f"{name}: [192.168.1.1]")
        texts = tuple(scalar(each).strip() for each in node.value)
        for text in texts:
            if re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", text) is None:
                raise Wrong(f"{shown(text)} is neither a host name nor an address")
        return texts

    def form(self) -> str:
        return "a list of host names or addresses"


@dataclass(frozen=True, slots=True)
class Part:
    """A group of keys that is read later."""

    def read(self, node: yaml.Node, name: str) -> yaml.Node:
        if not isinstance(node, yaml.MappingNode):
            raise Wrong("must be a group of keys", f"{name}: {{...}}")
        return node

    def form(self) -> str:
        return "a group of keys"


# IEEE 802.11: an SSID has up to 32 bytes; WPA2 and WPA3 take passphrases of 8 to 63 printable characters (iwd(5)).
TOP = (Key("ethernet", Part(), ""), Key("wifi", Part(), ""), Key("ntp", Hosts(), "", ()))
ETHERNET = (Key("address", Interface(), "", required=True), Key("gateway", Address(), ""), Key("dns", Hosts(), "", ()))
WIFI = (
    Key("ssid", Text(r"[^\x00-\x1f\x7f]{1,32}", "the name of the network"), "", required=True),
    Key("password", Text(r"[\x20-\x7e]{8,63}", "8 to 63 plain letters", is_secret=True), ""),
    Key("country", Text(r"[A-Z]{2}", "two capital letters such as `ID`"), "", required=True),
)


@dataclass(frozen=True, slots=True)
class Ethernet:
    address: str
    gateway: str = ""
    dns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wifi:
    ssid: str
    country: str
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Network:
    ethernet: Ethernet | None = None
    wifi: Wifi | None = None
    ntp: tuple[str, ...] = ()


def read(data: bytes) -> tuple[Network | None, tuple[Fault, ...]]:
    """The settings in a network.yaml, or all its faults."""
    node, fault = compose(data)
    if node is None:
        assert fault is not None
        return None, (fault,)
    reader = Reader()
    top = reader.section(reader.entries(node, ""), TOP, path="", line=1)
    ethernet = wifi = None
    if top["ethernet"] is not None:
        values = reader.section(
            reader.entries(top["ethernet"], "ethernet"), ETHERNET, path="ethernet", line=line_of(top["ethernet"])
        )
        ethernet = Ethernet(values["address"] or "", values["gateway"] or "", values["dns"])
        if (
            ethernet.address
            and ethernet.gateway
            and ipaddress.ip_address(ethernet.gateway) not in ipaddress.ip_interface(ethernet.address).network
        ):
            reader.fault(
                line_of(top["ethernet"]),
                "ethernet.gateway",
                f"{ethernet.gateway} is not in the network of {ethernet.address}",
            )
    if top["wifi"] is not None:
        values = reader.section(reader.entries(top["wifi"], "wifi"), WIFI, path="wifi", line=line_of(top["wifi"]))
        wifi = Wifi(values["ssid"] or "", values["country"] or "", values["password"] or "")
    if reader.faults:
        return None, tuple(sorted(reader.faults))
    return Network(ethernet, wifi, top["ntp"]), ()


# -- what others read --------------------------------------------------------------------------------

# MAC instead of a machine id: that one is new at every start, and the router would hand out a new address each time.
_COMMON = "LinkLocalAddressing=yes\nMulticastDNS=yes\nLLMNR=no\nIPv6AcceptRA=yes\n"
_DHCP = "\n[DHCPv4]\nClientIdentifier=mac\nUseDomains=no\nUseHostname=no\n\n[DHCPv6]\nDUIDType=link-layer\n"


def networkd_files(network: Network) -> dict[str, str]:
    """Name -> text, for /run/systemd/network."""
    wired = network.ethernet
    if wired is None:
        ethernet = f"[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=yes\n{_COMMON}{_DHCP}"
    else:
        more = "".join(f"DNS={server}\n" for server in wired.dns) + (
            f"Gateway={wired.gateway}\n" if wired.gateway else ""
        )
        ethernet = f"[Match]\nType=ether\nKind=!*\n\n[Network]\nAddress={wired.address}\n{more}{_COMMON}"
    files = {"20-ethernet.network": ethernet}
    if network.wifi is not None:
        files["30-wifi.network"] = (
            f"[Match]\nType=wlan\n\n[Network]\nDHCP=yes\n{_COMMON}{_DHCP}\n[Link]\nRequiredForOnline=no\n"
        )
    return files


def iwd_files(wifi: Wifi) -> dict[str, str]:
    """Name -> text, for /var/lib/iwd (iwd.network(5)): a name with other characters than these is written in hexadecimal."""
    plain = re.fullmatch(r"[A-Za-z0-9 _-]+", wifi.ssid) is not None
    name = wifi.ssid if plain else "=" + wifi.ssid.encode().hex()
    if not wifi.password:
        return {f"{name}.open": "[Settings]\nAutoConnect=true\n"}
    escaped = wifi.password.replace("\\", "\\\\")
    if escaped.startswith(" "):
        escaped = "\\s" + escaped[1:]
    return {f"{name}.psk": f"[Security]\nPassphrase={escaped}\n\n[Settings]\nAutoConnect=true\n"}
