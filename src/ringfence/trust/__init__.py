"""Keys, certificates and signatures: who is speaking, and who said this.

    signer = load_ed25519(home / "keys/statement.pem", read_passphrase("file:/run/keys/pass"))
    envelope = seal(statement, payload_type=IN_TOTO, signer=signer)
    open_envelope(envelope, public_key=signer.public_key, payload_type=IN_TOTO,
                  limit_bytes=4 << 20, what="statement")

    with LeafKeeper(identity=SpiffeId(trust_domain="cn.example", role="gateway"), ...) as keeper:
        connection = keeper.client_context().wrap_socket(raw)
    peer = verify_peer(connection, anchors=anchors, now_s=clock())
    require_peer(peer, region=agreement.hub, role="coordinator")

Names are in `names`, certificates in `certificates` and `encoding`, the judgement of a peer's chain
in `peers`, the TLS contexts in `tls`, a process's own leaf in `leaf`, the issuer in `issuing`.
"""
