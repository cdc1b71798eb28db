"""Floor 2, below the places: what gateway and coordinator both do with an artifact at the border.

verdict = decide(region, declaration)            # law, or Refused
envelope = sign(region, declaration, verdict)
index = record_intent(region, envelope)          # durable before a byte leaves
"""
