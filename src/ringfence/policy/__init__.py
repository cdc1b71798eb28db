"""Law as code: may this item cross, by which article not, and what would cure it.

The packs are engineering input, not legal advice; counsel must confirm every rule.

    judge = Judge(packs=load_packs(home / "packs"))
    verdict = judge.judge(Question(action=Action.EXPORT, kind=ItemKind.UPDATE, ...))
    if not verdict.permitted:
        print(verdict.rules[0].id, verdict.rules[0].cite, verdict.rules[0].remedy)
"""
