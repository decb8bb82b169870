"""How gateways are answered, as a node's settings say it: made once, in C memory, and read by all loops."""

from libc.string cimport memcpy, memset, strlen

FIXED_HEADERS = ("x-verifier-client", "x-verifier-key-id", "x-verifier-version", "x-verifier-phase",
                 "x-verifier-scopes", "x-verifier-revision")
KINDS = {"header": HEADER, "scheme": HEADER_SCHEME, "query": QUERY}
cdef const char* FIXED_NAMES[IDENTITY_FIXED]
FIXED_NAMES[:] = [b"x-verifier-client", b"x-verifier-key-id", b"x-verifier-version", b"x-verifier-phase",
                  b"x-verifier-scopes", b"x-verifier-revision"]


cdef object keep(text_t* target, uint8_t* room, bytes text, size_t most):
    """Copy Python bytes to where they stay."""
    if not 0 < len(text) <= <Py_ssize_t>most:
        raise ValueError(f"{text!r} does not have 1 to {most} characters")
    memcpy(room, <const char*>text, len(text))
    target.at = room
    target.length = len(text)


cdef class Authz:
    """How gateways are answered; immutable, and shared by all loops.

    `verifier.server.authz` makes one from a node's settings, and checks what it is given here.

    Args:
        places: where a key may be, as (kind, name, scheme): `("header", "x-api-key", "")`,
            `("scheme", "authorization", "bearer")`, `("query", "api_key", "")`. Names of headers and schemes in lower case.
        metadata: names in records, with the header that tells them: `(("plan", "x-verifier-plan"),)`.
        realm: of challenges.
        minimal: answer every 401 with one body.
        deprecation: send Deprecation and Sunset while a key is RETIRING.
        answer_faults: answer Envoy's Check with `error_response` instead of failing the RPC.
        forwarded_hops: proxies in front that append to X-Forwarded-For; 0 does not look at it.

    Raises:
        ValueError: too many, too long, or an unknown kind.
    """

    def __cinit__(self, places=(("scheme", "authorization", "bearer"), ("header", "x-api-key", "")), *, metadata=(),
                  str realm="api", bint minimal=False, bint deprecation=True, bint answer_faults=False,
                  int forwarded_hops=0):
        cdef authz_t* authz = &self.authz
        cdef int i
        if not 0 < len(places) <= PLACES_MAX or len(metadata) > METADATA_MAX or not 0 <= forwarded_hops <= HOPS_MAX:
            raise ValueError(f"at most {PLACES_MAX} places, {METADATA_MAX} metadata names and {HOPS_MAX} hops")
        if len({name for name, _ in metadata}) < len(metadata):
            # decided_t has room for each part of a record once.
            raise ValueError("a metadata name can be told at most once")
        if len(realm) > REALM_BYTES_MAX:
            raise ValueError(f"a realm has up to {REALM_BYTES_MAX} characters")
        memset(authz, 0, sizeof(authz_t))
        authz.minimal = minimal
        authz.deprecates = deprecation
        authz.answers_faults = answer_faults
        authz.hops = forwarded_hops
        if forwarded_hops:
            authz.by_length[FORWARDED_LENGTH] |= FORWARDED_BIT
        for kind, name, scheme in places:
            self._add_place(&authz.places[authz.place_count], realm, kind, name, scheme)
        for i in range(IDENTITY_FIXED):
            authz.identity[i].at = <const uint8_t*>FIXED_NAMES[i]
            authz.identity[i].length = strlen(FIXED_NAMES[i])
            authz.by_length[authz.identity[i].length] |= IDENTITY_BIT
        for name, header in metadata:
            i = authz.metadata_count
            keep(&authz.metadata[i], authz.metadata_bytes[i], name.encode(), NAME_BYTES_MAX)
            keep(&authz.identity[IDENTITY_FIXED + i], authz.identity_bytes[i], header.encode(), IDENTITY_BYTES_MAX)
            authz.by_length[authz.identity[IDENTITY_FIXED + i].length] |= IDENTITY_BIT
            authz.metadata_count += 1

    cdef _add_place(self, place_t* place, realm, kind, name, scheme):
        cdef int number = self.authz.place_count
        place.kind = KINDS[kind] if kind in KINDS else -1
        if place.kind < 0:
            raise ValueError(f"places are {', '.join(KINDS)}, not {kind}")
        keep(&place.name, place.name_bytes, name.encode(), NAME_BYTES_MAX)
        if place.kind == HEADER_SCHEME:
            keep(&place.scheme, place.scheme_bytes, scheme.encode(), NAME_BYTES_MAX)
        if place.kind == QUERY:
            self.authz.asks_query = True
        else:
            self.authz.by_length[place.name.length] |= <uint16_t>(1 << number)
        challenge = f'{"Bearer" if scheme == "bearer" else "ApiKey"} realm="{realm}"'.encode()
        keep(&place.challenge, place.texts[0], challenge, CHALLENGE_BYTES_MAX)
        place.invalid = place.multiple = place.challenge
        if scheme == "bearer":
            keep(&place.invalid, place.texts[1], challenge + b', error="invalid_token"', CHALLENGE_BYTES_MAX)
            keep(&place.multiple, place.texts[2], challenge + b', error="invalid_request"', CHALLENGE_BYTES_MAX)
        self.authz.place_count += 1
