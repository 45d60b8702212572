"""Other regions: the same service of each, by the internal address that the settings give it."""

from collections.abc import Mapping

import grpc

from svckit.calls import Unanswered
from svckit.channels import open_channel
from svckit.errors import RegionNotFound


class Peers:
    """One channel to each peer."""

    def __init__(
        self, addresses: Mapping[str, str], credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self._channels = {region: open_channel(address, credentials) for region, address in addresses.items()}

    def must_know(self, region: str) -> None:
        """Raises RegionNotFound for a region that the settings do not name: nothing is begun with it."""
        if region not in self._channels:
            raise RegionNotFound(region, sorted(self._channels))

    def channel(self, region: str) -> grpc.Channel:
        """For a step of a saga. That the settings do not name the region any more says nothing of what has happened there:
        it is Unanswered, as when the region is away.
        """
        if region not in self._channels:
            raise Unanswered(f"the settings do not name region {region} any more")
        return self._channels[region]
