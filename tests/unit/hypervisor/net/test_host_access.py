from __future__ import annotations

import pytest

from magpie_local.hypervisor.net.host_access import GUEST_BUNDLE, certificate_files, host_access

PEM = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----"
KEY = b"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----"


def test_proxies_and_indexes_go_along_and_nothing_else_does():
    environ = {"https_proxy": "http://me:pw@proxy.corp:3128", "no_proxy": "localhost,.corp", "HOME": "/home/me",
               "PIP_INDEX_URL": "https://index.corp/simple", "AWS_SECRET_KEY": "x", "HTTP_PROXY": ""}  # fmt: skip
    access = host_access(environ, {})
    kept = ("https_proxy", "no_proxy", "PIP_INDEX_URL")
    assert access.env == {name: environ[name] for name in kept}
    assert access.certificates == b""
    assert "pw" not in repr(access)
    assert access.passwords == ("pw",)
    assert access.services == (("proxy.corp", 3128), ("index.corp", 443))


@pytest.mark.parametrize(
    "value",
    ["http://127.0.0.1:3128", "http://localhost:3128/", "127.8.8.8:1", "http://[::1]:8080", "socks5://0.0.0.0:1",
     "http://me:pw@LOCALHOST:1", "https://ok.corp http://127.0.0.1:3141", "https://ok.corp,http://127.0.0.1,direct"],
)  # fmt: skip
def test_a_proxy_on_the_hosts_loopback_is_left_out_with_the_reason(value):
    access = host_access({"http_proxy": value}, {})
    assert access.env == {}
    assert "loopback" in access.left_out["http_proxy"]
    assert "pw" not in str(access.left_out)


def test_certificates_go_along_once_each_and_keys_stay():
    environ = {"SSL_CERT_FILE": "/a.pem", "PIP_CERT": "/b.pem", "CURL_CA_BUNDLE": "/a.pem"}
    assert certificate_files(environ) == ["/a.pem", "/b.pem"]
    access = host_access(environ, {"/a.pem": PEM % b"one" + KEY, "/b.pem": PEM % b"two" + b"\n" + PEM % b"one"})
    assert access.certificates == PEM % b"one" + b"\n" + PEM % b"two" + b"\n"
    assert access.env["PIP_CERT"] == access.env["NODE_EXTRA_CA_CERTS"] == GUEST_BUNDLE
    assert b"secret" not in access.certificates


def test_a_file_that_could_not_be_read_is_told():
    access = host_access({"SSL_CERT_FILE": "/gone.pem"}, {})
    assert access.left_out == {"SSL_CERT_FILE": "/gone.pem can't be read"}
    assert "SSL_CERT_FILE" not in access.env
