"""Keys, certificates and signatures: who is speaking, and who said this.

signer = load_ed25519(home / "keys/statement.pem", read_passphrase("file:/run/keys/pass"))
envelope = seal(statement, payload_type=IN_TOTO, signer=signer)
open_envelope(envelope, public_key=signer.public_key, payload_type=IN_TOTO,
              limit_bytes=4 << 20, what="statement")

keeper = LeafKeeper(identity=SpiffeId(trust_domain="cn.example", role="gateway"), ...)
sock = keeper.client_context().wrap_socket(raw)
peer = verify_peer(sock, anchors=anchors, now_s=clock())
require_peer(peer, region=agreement.hub, role="coordinator")
"""
