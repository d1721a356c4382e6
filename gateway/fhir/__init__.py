"""FHIR R4 (4.0.1), JSON: reading what a caller sent, and saying what is wrong with it.

    parse_json      bytes -> one JSON object, or a Problem: size, depth, duplicate members, numbers
    validate        the object -> findings: structure, codes, references and invariants of HL7's definitions (`r4/`, generated)
    outcome         findings -> OperationOutcome
    capability      what the API layer really does -> CapabilityStatement
    oracle          fhir.resources' opinion of the same resource; for tests, never on the request path

`validate` is one call into a compiled JSON Schema and one walk in Python. The schema holds names, cardinalities, primitives and
required codes. The walk holds what a schema can't say cheaply: one value of a choice, what a reference may point at, and the FHIRPath
invariants, which were translated to Python when the files in `r4/` were generated. No FHIRPath is evaluated per request.
"""
