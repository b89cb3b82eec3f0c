"""The form of sealed values, byte by byte, and what a seal refuses."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sameface.gallery.crypto import DataKey, DecryptionError, decrypt, read_number, value_place, wrapped_place
from sameface.gallery.keys import Key

SECRET = bytes(range(32))
NUMBER = 0x01020304
HEAD = b"\x01\x01\x02\x03\x04"  # the form, and the number of the data key


@pytest.fixture
def data_key() -> DataKey:
    return DataKey(NUMBER, SECRET)


def test_a_sealed_value_is_a_head_a_nonce_and_the_ciphertext_for_its_place(data_key: DataKey) -> None:
    sealed = data_key.encrypt(b"here", b"value")
    assert data_key.header == sealed[:5] == HEAD
    assert len(sealed) == 5 + 12 + len(b"value") + 16
    assert AESGCM(SECRET).decrypt(sealed[5:17], sealed[17:], b"here") == b"value"
    assert data_key.decrypt(b"here", sealed) == b"value"
    assert data_key.encrypt(b"here", b"value")[5:17] != sealed[5:17]
    assert (data_key.number, read_number(sealed)) == (NUMBER, NUMBER)


def test_a_value_of_another_place_key_or_length_does_not_open(data_key: DataKey) -> None:
    sealed = data_key.encrypt(b"here", b"value")
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for place, value in ((b"there", sealed), (b"here", flipped), (b"here", sealed[:-1]), (b"here", sealed[:16])):
        with pytest.raises(DecryptionError):
            data_key.decrypt(place, value)
    with pytest.raises(DecryptionError):
        DataKey(NUMBER, bytes(32)).decrypt(b"here", sealed)


def test_a_short_nonce_is_a_broken_seal() -> None:
    with pytest.raises(DecryptionError):
        decrypt(AESGCM(SECRET), bytes(11), bytes(16), b"here")


def test_a_data_key_opens_with_the_key_that_wrapped_it_and_under_its_number_only(data_key: DataKey) -> None:
    key = Key(bytes(range(1, 33)))
    wrapped = data_key.wrap(key)
    assert AESGCM(key.secret).decrypt(wrapped[:12], wrapped[12:], wrapped_place(NUMBER)) == SECRET
    again = DataKey.unwrap(NUMBER, wrapped, key)
    assert again.decrypt(b"here", data_key.encrypt(b"here", b"value")) == b"value"
    assert again.number == NUMBER
    for number, with_key in ((NUMBER + 1, key), (NUMBER, Key(bytes(32)))):
        with pytest.raises(DecryptionError):
            DataKey.unwrap(number, wrapped, with_key)


def test_a_new_data_key_has_a_number_of_32_bits_and_a_secret_of_its_own() -> None:
    one, other = DataKey.generate(), DataKey.generate()
    assert 0 <= one.number < 2**32
    assert one.number != other.number
    with pytest.raises(DecryptionError):
        DataKey(one.number, other.wrap(Key(SECRET))[12:44]).decrypt(b"here", one.encrypt(b"here", b"value"))
    assert DataKey.unwrap(one.number, one.wrap(Key(SECRET)), Key(SECRET)).header == one.header


def test_places_are_the_documented_ones() -> None:
    assert wrapped_place(7) == b"sameface 1 data key 7"
    assert value_place("crop", 12) == b"sameface 1 crop of face 12"


def test_the_number_is_read_of_a_whole_head_of_our_form_only() -> None:
    assert read_number(HEAD + bytes(12)) == NUMBER
    for sealed in (HEAD + bytes(11), b"", b"\x02" + HEAD[1:] + bytes(12)):
        with pytest.raises(DecryptionError):
            read_number(sealed)
