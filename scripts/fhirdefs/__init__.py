"""Build-time reading of HL7's FHIR R4 definitions; nothing in here is imported by the running hub."""
