"""Floor 2, below the places: what gateway and coordinator both do with an artifact at the border.

declaration = decide(region, draft, recipient="cn")      # carries the law's permit, or Refused
envelope = sign(region, declaration)
index = record_intent(region, declaration, envelope)     # durable before a byte leaves
"""
