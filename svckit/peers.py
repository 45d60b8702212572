"""Other regions: the same service of each, by the internal address that the settings give it."""

from collections.abc import Mapping

import grpc

from svckit.calls import open_channel
from svckit.errors import RegionNotFound


class Peers:
    """One channel to each peer."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._channels = {region: open_channel(address) for region, address in addresses.items()}

    def channel(self, region: str) -> grpc.Channel:
        """Raises RegionNotFound for a region that the settings do not name."""
        if region not in self._channels:
            raise RegionNotFound(region, sorted(self._channels))
        return self._channels[region]
