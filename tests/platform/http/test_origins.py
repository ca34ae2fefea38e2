"""Where a payer may be sent: origins as browsers read them."""

from __future__ import annotations

import pytest

from subledger.platform.http.origins import is_local, origin, permits


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://Shop.Example/a?b#c", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://shop.example:80/", "http://shop.example"),
        ("http://shop.example:443/", "http://shop.example:443"),
        ("http://[::1]:3000/x", "http://[::1]:3000"),
        ("https://xn--e1afmkfd.example/", "https://xn--e1afmkfd.example"),
    ],
)
def test_an_origin_is_scheme_host_and_port(address: str, expected: str) -> None:
    assert origin(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "", "shop.example", "//shop.example", "ftp://shop.example", "javascript:alert(1)",
        "https:shop.example", "https:///shop.example", "https://", "https://user@shop.example/",
        "https://shop.example@evil.example/", "https://evil.example\\@shop.example/",
        "https://shop.example\n.evil.example/", "https://shop .example/", "https://é.example/",
        "https://shop.example:99999/", "https://shop.example:x/", "https://shop%2eexample/",
        "https://" + "a" * 2_000,
    ],
)  # fmt: skip
def test_what_is_no_plain_address_has_no_origin(address: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin(address)
    assert not permits(address, own="https://shop.example", allowed=(), is_test=True)


def test_localhost_is_for_test_tenants() -> None:
    for address in ("http://localhost:3000/x", "https://127.0.0.1/", "http://[::1]:8080/"):
        assert is_local(origin(address))
        assert permits(address, own="https://a.example", allowed=(), is_test=True)
        assert not permits(address, own="https://a.example", allowed=(), is_test=False)
    assert not is_local(origin("http://localhost.evil.example/"))
