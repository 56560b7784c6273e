"""Logins: the examples of the RFCs, and what real cameras ask."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nvr.rtsp.digest import Challenge, Credentials, digest_response, parse_challenges

RFC7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def answer_to(*challenges: str, user: str = "Mufasa", password: str = "Circle of Life") -> str:
    login = Credentials(user, password)
    assert login.accept(list(challenges))
    return login.header("GET", "/dir/index.html", client_nonce=CNONCE)


def test_the_md5_example_of_rfc_7616():
    assert 'response="8ca523f5e9506fed4657c9700eebdbec"' in answer_to(RFC7616.format("MD5"))


def test_the_sha_256_example_of_rfc_7616():
    header = answer_to(RFC7616.format("SHA-256"))
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in header
    assert "qop=auth, nc=00000001" in header
    assert 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"' in header


def test_without_qop_the_answer_is_that_of_rfc_2069():
    """As Longse and most others ask."""
    header = answer_to('Digest realm="Surveillance Server", nonce="98481030"', user="admin", password="12345")
    expected = digest_response(
        Challenge("digest", "Surveillance Server", "98481030"), "admin", "12345", "GET", "/dir/index.html", 1, ""
    )
    assert f'response="{expected}"' in header
    assert "qop" not in header and "algorithm" not in header


def test_the_strongest_challenge_is_answered():
    for order in (["Basic", "MD5", "SHA-256"], ["SHA-256", "MD5", "Basic"]):
        values = ['Basic realm="x"' if name == "Basic" else RFC7616.format(name) for name in order]
        assert "algorithm=SHA-256" in answer_to(*values)
        assert "algorithm=SHA-256" in answer_to(", ".join(values))


def test_basic_is_used_when_nothing_better_is_offered():
    assert answer_to('Basic realm="cam"', user="a", password="b:c") == "Basic YTpiOmM="


def test_basic_is_refused_once_digest_was_offered():
    login = Credentials("a", "b")
    assert login.accept(['Digest realm="x", nonce="1"'])
    assert not login.accept(['Basic realm="x"'])


def test_what_cannot_be_answered_is_said_so():
    login = Credentials("a", "b")
    assert not login.accept([])
    assert not login.accept(
        ["Negotiate", 'Digest realm="x", nonce="1", algorithm=MD4', 'Digest realm="x", nonce="1", qop="auth-int"']
    )
    assert login.header("GET", "/") == ""


def test_the_nonce_count_rises_and_starts_again_with_a_new_nonce():
    login = Credentials("a", "b")
    challenge = 'Digest realm="x", nonce="{}", qop="auth"'
    login.accept([challenge.format(1)])
    assert "nc=00000001" in login.header("GET", "/")
    assert "nc=00000002" in login.header("GET", "/")
    login.accept([challenge.format(2)])
    assert "nc=00000001" in login.header("GET", "/")


def test_stale_and_session_variants_are_understood():
    [challenge] = parse_challenges(['Digest realm="a\\"b", nonce="n", stale=TRUE, algorithm=md5-sess, qop="auth"'])
    assert challenge.is_stale and challenge.is_session
    assert challenge.realm == 'a"b'
    assert 'realm="a\\"b"' in answer_to('Digest realm="a\\"b", nonce="n"')


def test_the_password_is_not_shown():
    assert "secret" not in repr(Credentials("user", "secret"))


@given(
    st.lists(
        st.sampled_from(["Digest", "Basic", " ", ",", "realm", "=", '"', "nonce", "\\", "x", "qop", "auth", "\r\n"]),
        max_size=40,
    )
)
def test_any_challenge_is_answered_or_passed_over(words):
    login = Credentials("a", "b")
    if login.accept(["".join(words)]):
        header = login.header("OPTIONS", "rtsp://x/")
        assert "\r" not in header and "\n" not in header
