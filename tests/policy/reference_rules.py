"""Rule ids of the regulations reference (edition 2026-11-20) with citation head and confidence.

Copied by hand from its tables, once; the packs must agree with it.  Where a reading of section 8
stands behind a rule its confidence is L.
"""

from __future__ import annotations

# "Same" in the reference's column of citations.
_FLOWS = "Provisions on Promoting and Regulating Cross-border Data Flows, CAC Order 16, 22 Mar 2024"
_CARS = "Several Provisions on Automobile Data Security (Trial), Order 7, 1 Oct 2021"

REFERENCE_RULES: dict[str, tuple[str, frozenset[str]]] = {
    "PLAT-DENY": ("Default rule", frozenset("H")),
    # In the platform's own pack H; row 2 of section 7 (labels with person ids) is M.
    "PLAT-RAW": ("Product policy, stricter than law", frozenset("H")),
    "PLAT-DERIVED": ("Reading, section 8", frozenset("L")),
    "PLAT-SEED": ("Reading, section 8", frozenset("L")),
    "PLAT-COHORT": ("Reading, section 8", frozenset("L")),
    "PLAT-DIRECTION": ("Reading, section 8", frozenset("L")),
    "PLAT-EXTRACT": ("Reading, section 8", frozenset("L")),
    "CN-CSL": (
        "Cybersecurity Law 2017, amended 28 Oct 2025, in force 1 Jan 2026",
        frozenset("H"),
    ),
    "CN-DSL-21": ("Data Security Law, 1 Sep 2021", frozenset("H")),
    "CN-DSL-31": ("DSL Art 31", frozenset("H")),
    "CN-DSL-36": ("DSL Art 36; same for PI: PIPL Art 41", frozenset("L")),
    "CN-PIPL-3": ("PIPL Arts 3, 4, 73(4), 1 Nov 2021", frozenset("H")),
    "CN-PIPL-13": ("PIPL Arts 13, 28–29", frozenset("H")),
    "CN-PIPL-36": ("PIPL Art 36", frozenset("H")),
    "CN-PIPL-38": ("PIPL Art 38", frozenset("H")),
    "CN-PIPL-39": ("PIPL Art 39", frozenset("H")),
    "CN-PIPL-40": ("PIPL Art 40", frozenset("H")),
    "CN-PIPL-42": ("PIPL Arts 42–43", frozenset("H")),
    "CN-PIPL-55": ("PIPL Arts 55–56", frozenset("H")),
    "CN-EXP-2022": (
        "Measures for Security Assessment of Outbound Data Transfers, CAC Order 11, 1 Sep 2022",
        frozenset("H"),
    ),
    "CN-FLOW-4": (_FLOWS + ", Art 4", frozenset("H")),
    "CN-FLOW-5": (_FLOWS + ", Art 5", frozenset("H")),
    "CN-FLOW-6": (_FLOWS + ", Art 6; Beijing FTZ list Aug 2024", frozenset("M")),
    # Two policies: the article itself, and the reading of CN-FLOW-8.
    "CN-FLOW-7": (_FLOWS + ", Arts 7, 9", frozenset("HL")),
    "CN-FLOW-8": (_FLOWS + ", Art 8", frozenset("H")),
    "CN-SCC-2023": ("CAC Order 13, 1 Jun 2023", frozenset("H")),
    "CN-CERT-2026": ("CAC/SAMR Order 20, in force 1 Jan 2026", frozenset("H")),
    "CN-NDSR-2025": (
        "Network Data Security Management Regulations, 1 Jan 2025 (State Council Order 790)",
        frozenset("H"),
    ),
    "CN-AUTO-3": (_CARS + ", Art 3", frozenset("H")),
    "CN-AUTO-6": (_CARS + ", Arts 6, 8", frozenset("H")),
    "CN-AUTO-11": (_CARS + ", Arts 11–12", frozenset("H")),
    "CN-AUTO-13": (_CARS + ", Arts 13–14", frozenset("H")),
    "CN-AUTO-2026": (
        "Guidelines for Security of Automotive Data Cross-border Transfer (2026 Edition)",
        frozenset("L"),
    ),
    "CN-MAP-2022": ("Surveying and Mapping Law; MNR notice, 30 Aug 2022", frozenset("H")),
    # M: what row 2 of section 7 says of labels.
    "CN-MAP-2024": ("MNR Notice 〔2024〕139, 26 Jul 2024", frozenset("H")),
    "CN-GBT-44464": ("GB/T 44464-2024, 23 Aug 2024 (recommended)", frozenset("H")),
    "CN-TECH-EXP": (
        "Foreign Trade Law; Technology Import/Export Regulations; Catalogue of 21 Dec 2023",
        frozenset("L"),
    ),
    "CN-GENAI": (
        "Interim Measures 2023; Algorithm Provisions 2022; Deep Synthesis Provisions 2023",
        frozenset("M"),
    ),
    "CN-OTA": ("MIIT/SAMR notice 〔2025〕45; GB 44495/44496 (1 Jan 2026)", frozenset("M")),
    "EU-GDPR-4": (
        "GDPR 2016/679 Arts 4(1),(5), 5; EDPS v SRB C-413/23 P (2025)",
        frozenset("H"),
    ),
    "EU-GDPR-6": ("Arts 6, 9", frozenset("H")),
    "EU-GDPR-25": ("Arts 25, 32, 35", frozenset("H")),
    "EU-GDPR-44": ("Art 44", frozenset("H")),
    "EU-GDPR-45": ("Art 45; Decision (EU) 2023/1795", frozenset("H")),
    "EU-GDPR-46": ("Arts 46–47; Schrems II C-311/18; EDPB Rec. 01/2020", frozenset("H")),
    "EU-GDPR-48": ("Arts 48, 49", frozenset("H")),
    # Two policies: the opinion itself, and the reading of PLAT-EXTRACT for its tests.
    "EU-EDPB-2024-28": ("EDPB Opinion 28/2024, 17–18 Dec 2024", frozenset("HL")),
    "EU-AIA-6": ("Reg. 2024/1689 Art 2(2)", frozenset("M")),
    # "H / M" in the table: M for the Official Journal number, which is not verified.
    "EU-AIA-OMNI": ("Amends 2024/1689", frozenset("M")),
    "EU-AIA-53": ("Arts 51–55", frozenset("M")),
    "EU-DATA-32": ("Reg. 2023/2854, from 12 Sep 2025", frozenset("H")),
    "EU-DUAL": ("Reg. 2021/821", frozenset("M")),
    "EU-TA-R155": ("UN R155/156/157; (EU) 2022/1426", frozenset("H")),
    "UN-ADS-2026": ("WP.29, 1958/1998 Agreements", frozenset("H")),
    # Section 4 gives no citations: the article of the id, or the line's own words.
    "JP-APPI-28": ("APPI Art 28", frozenset("H")),
    "JP-APPI-2026": ("Bill, Cabinet Apr 2026", frozenset("M")),
    "JP-FEFA": ("FEFA: listed technology", frozenset("M")),
    "KR-PIPA-28-8": ("PIPA Art 28-8", frozenset("M")),
    "KR-MAP-16": ("Section 4 of the reference: detailed maps", frozenset("M")),
    "UK-GDPR-46": ("UK GDPR Art 46; Data (Use and Access) Act 2025", frozenset("M")),
    "IN-DPDP-16": ("DPDP Art 16; Rules of Nov 2025", frozenset("M")),
    "IN-GEO-2021": ("Section 4 of the reference: map data finer than 1 m", frozenset("M")),
    "AE-PDPL-22": ("PDPL Art 22", frozenset("L")),
    "US-EAR-3A090": ("Rules of Oct 2022, 17 Oct 2023, 4 Apr 2024, 2 Dec 2024", frozenset("L")),
    "US-EAR-H200": ("91 FR 1684, 15 Jan 2026", frozenset("H")),
    "US-EAR-HQ": ("742.6; BIS guidance 31 May 2026", frozenset("H")),
    "US-EAR-GP10": ("736.2(b)(10); BIS guidance 13 May 2025", frozenset("L")),
    "US-EAR-TRAIN": ("BIS policy statement 13 May 2025; 744.6, 744.22", frozenset("H")),
    "US-EAR-4E091": ("ECCN 4E091", frozenset("M")),
    "US-EAR-4E001": ("Supp. 1 to part 774", frozenset("M")),
    "US-EAR-5D002": ("740.17, 742.15", frozenset("M")),
    "US-EAR-734.13": ("734.2, 734.13, 734.14", frozenset("H")),
    "US-EAR-734.7": ("734.7, 734.8", frozenset("H")),
    "US-EAR-FDPR": ("734.4, 734.9", frozenset("M")),
    "US-EAR-744": ("744.6, .11, .21–.23; Supp. 4", frozenset("H")),
    "US-EAR-50PCT": ("90 FR (30 Sep and 12 Nov 2025)", frozenset("L")),
    # The counting of mixed sets is the reading of US-DOJ-202.301.
    "US-DOJ-202.205": ("28 CFR 202.205, .206, .242; in force 8 Apr 2025", frozenset("L")),
    "US-DOJ-202.204": ("202.204", frozenset("H")),
    "US-DOJ-202.301": ("202.301", frozenset("L")),
    "US-DOJ-202.302": ("202.302", frozenset("L")),
    # H for the rule, M for its details.
    "US-DOJ-202.401": ("202.401, .248, .1001 (6 Oct 2025), .1002, .1101", frozenset("M")),
    "US-DOJ-202.222": ("202.222, .1401", frozenset("M")),
    "US-ICTS-791.303": ("15 CFR 791.303, .308; 90 FR 5360, 17 Mar 2025", frozenset("L")),
    # Readings of US-ICTS-791.303: when the legacy date ends, and what raises the flag.
    "US-ICTS-LEGACY": ("791.301", frozenset("L")),
    "US-ICTS-791.304": ("791.304", frozenset("H")),
    "US-ICTS-791.307": ("791.305–.312", frozenset("M")),
    "US-CVSA-BILL": ("Pending", frozenset("L")),
    "US-STATE": ("Cal. Civ. Code 1798.100 ff.", frozenset("M")),
}
