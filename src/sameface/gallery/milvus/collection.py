"""The collection of a gallery in Milvus: embeddings by the number of their face."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException

from sameface.arrays import Embeddings
from sameface.gallery.address import MilvusAddress
from sameface.gallery.errors import GalleryFileError, GalleryUnreachableError

WAIT_SECONDS = 10.0  # for a server that is away
ANSWER_SECONDS = 30.0  # for an answer to anything
PAUSE_SECONDS = 0.2  # between two attempts to reach it
MOST = 16_384  # faces of a search; Milvus gives no more
LOST = 2  # pymilvus's code where there is no connection
RELEASED = 101  # Milvus's code where a collection is not in the memory of its servers

# 32 neighbours, found among 200, for each face; at least 256 are looked at in a search.
INDEXES: dict[str, dict[str, Any]] = {
    "flat": {"index_type": "FLAT", "params": {}},
    "hnsw": {"index_type": "HNSW", "params": {"M": 32, "efConstruction": 200}},
}
LOOKED_AT = 256

# Without this the client waits minutes before it tries a server again.
TRIED_AGAIN = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 1000}


class MilvusCollection:
    """One collection in Milvus, for any number of threads. It holds numbers and embeddings, no names."""

    def __init__(self, address: MilvusAddress, name: str) -> None:
        self.address = address
        self.name = name
        self._client: MilvusClient | None = None
        logging.getLogger("pymilvus").handlers = [logging.NullHandler()]  # our errors say the same

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def reach(self) -> None:
        """Wait until the server answers; raise `GalleryUnreachableError` after `WAIT_SECONDS`."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self._call("has_collection", timeout=WAIT_SECONDS)
                return
            except GalleryUnreachableError:
                if time.monotonic() > end:
                    raise
            time.sleep(PAUSE_SECONDS)

    def dimension(self) -> int | None:
        """Return the width of the embeddings, or None if there is no collection."""
        if not self._call("has_collection"):
            return None
        fields = self._call("describe_collection")["fields"]
        return next(int(field["params"]["dim"]) for field in fields if field["name"] == "embedding")

    def drop(self) -> None:
        """Delete the collection, if there is one."""
        self._call("drop_collection")

    def make(self, dimension: int) -> None:
        """Replace the collection by an empty one."""
        self.drop()
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dimension)
        index = MilvusClient.prepare_index_params()
        index.add_index("embedding", metric_type="IP", **INDEXES[self.address.index])
        self._call("create_collection", schema=schema, index_params=index, consistency_level="Strong")

    def count(self) -> int:
        """Return the number of faces."""
        found = self._call("query", output_fields=["count(*)"], consistency_level="Strong")
        return int(found[0]["count(*)"])

    def put(self, numbers: Sequence[int], rows: Sequence[Embeddings]) -> None:
        """Insert or replace faces by number; rows are `(d,) float32`."""
        if numbers:
            faces = [{"id": number, "embedding": row} for number, row in zip(numbers, rows, strict=True)]
            self._call("upsert", data=faces)

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete faces by number, if they are there."""
        if numbers:
            self._call("delete", ids=list(numbers))

    def search(self, probes: Embeddings, limit: int) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Return the faces nearest to each probe and their inner products, nearest first.

        If the server does not answer, wait for it and repeat the search once.
        """
        looked_at = {"ef": max(limit, LOOKED_AT)} if self.address.index == "hnsw" else {}
        options: dict[str, Any] = {
            "data": list(probes),
            "anns_field": "embedding",
            "limit": limit,
            "search_params": {"metric_type": "IP", "params": looked_at},
            "consistency_level": "Strong",
        }
        try:
            found = self._call("search", **options)
        except GalleryUnreachableError:
            self.reach()
            found = self._call("search", **options)
        return [
            (np.array([hit["id"] for hit in hits], np.int64), np.array([hit["distance"] for hit in hits], np.float32))
            for hits in found
        ]

    def _call(self, method: str, *, timeout: float | None = None, **options: Any) -> Any:
        """Call a method of the client on the collection, and raise its errors as errors of the gallery.

        A server that was restarted may have released the collection: then load it again.
        """
        timeout = ANSWER_SECONDS if timeout is None else timeout
        try:
            client = self._connect()
            try:
                return getattr(client, method)(self.name, timeout=timeout, **options)
            except MilvusException as error:
                if error.code != RELEASED:
                    raise
                client.load_collection(self.name, timeout=ANSWER_SECONDS)
                return getattr(client, method)(self.name, timeout=timeout, **options)
        except (MilvusException, grpc.RpcError) as error:
            raise translate(error, self.address) from error

    def _connect(self) -> MilvusClient:
        """Return the client; connect on the first call."""
        if self._client is None:
            address = self.address
            self._client = MilvusClient(
                address.uri,
                user=address.user,
                password=address.password,
                db_name=address.database,
                timeout=WAIT_SECONDS,
                grpc_options=TRIED_AGAIN,
            )
        return self._client


def translate(
    error: MilvusException | grpc.RpcError, address: MilvusAddress
) -> GalleryFileError | GalleryUnreachableError:
    """Return the gallery's error for one of the client."""
    words = " ".join(str(getattr(error, "message", error)).split())
    if address.password:
        words = words.replace(address.password, "***")
    code = getattr(error, "code", None)
    if isinstance(error, grpc.RpcError) or code == LOST or isinstance(code, grpc.StatusCode):
        return GalleryUnreachableError(address.shown, f"Milvus does not answer: {words}")
    return GalleryFileError(address.shown, f"Milvus says: {words}")
