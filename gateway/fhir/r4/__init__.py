"""Generated from HL7's FHIR R4 definitions by scripts/build_fhir_schema.py; see NOTICE for the sources and their licences."""
