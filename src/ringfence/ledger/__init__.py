"""The ledger room: a region's append-only Merkle log, its witnesses and its proofs.

    with Log(directory, origin="cn.example/log", signer=signer) as log:
        entry = log.append(content)                       # durable from here on
        note = log.checkpoint()                           # signed, to be cosigned by others
        hashes = log.inclusion(entry.index, log.size)

A witness in another region sees the note, checks it against what it saw before, and cosigns:

    witness = Witness(
        directory=directory, log_key=key, name="us.example/witness", signer=signer, clock=clock
    )
    seen = witness.see(note, consistency=hashes)
    log.add_cosignature(seen.cosignature, witnesses)

Anybody with public keys checks a whole directory (`verify_log`) or one entry (`check_proof`).
"""
