import pytest

from reasonembed.serving.access_control import host_name, is_loopback, is_public, route_path


@pytest.mark.parametrize(
    ("path", "root_path", "expected"),
    [
        ("/v1/search", "", "/v1/search"),
        ("/api/v1/search", "/api", "/v1/search"),
        ("/a/b/healthz", "/a/b", "/healthz"),
        ("/api//healthz", "/api", "//healthz"),
        ("/api/../healthz", "/api", "/../healthz"),
        ("/apihealthz", "/api", "/apihealthz"),
        ("/api", "/api", "/api"),
        ("/healthz", "/api", "/healthz"),
    ],
)
def test_the_prefix_of_the_application_is_taken_off(path, root_path, expected):
    assert route_path({"path": path, "root_path": root_path}) == expected
    if not root_path:
        assert route_path({"path": path}) == expected


def test_only_listed_paths_in_their_normal_form_are_public():
    for path in ("/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"):
        assert is_public(path)
        for other in (
            f"/{path}",
            f"{path}/",
            f"{path}/../v1/search",
            f"/.{path}",
            path.upper(),
            f"{path}%2f",
            path[1:],
        ):
            assert not is_public(other)
    for path in ("", "/", "/v1/search", "/v1/models", "/metrics", "/docs/oauth2-redirect"):
        assert not is_public(path)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8000", "localhost"),
        ("LOCALHOST", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("attacker.example:8000", "attacker.example"),
        ("127.0.0.1.attacker.example", "127.0.0.1.attacker.example"),
        ("", ""),
    ],
)
def test_a_host_header_has_a_name_and_perhaps_a_port(header, name):
    assert host_name(header) == name


def test_loopback_addresses():
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    others = ("10.0.0.1", "0.0.0.0", "::", "localhost.example", "", "2130706433", "127.0.0.1.example")
    assert not any(map(is_loopback, others))
