"""Who may learn what: consents read, grants made, disclosures decided and explained. Pure: values in, values out.

::

    Consent (FHIR)  --check_coalition_consent-->  findings            its shape, before anyone looks at a person
                    --compile_grants----------->  Grant, Grant ...    the register: what she allowed, to whom, until when
    Ask (+ grants)  --decide------------------->  Permit | Denial     five gates, in this order

    gate        module          question
    agreement   agreement.py    are the two parties joined, now, for these regions?
    basis       basis.py        is the legal basis known, switched on, and theirs to use?
    row         plan.py         does the disclosure matrix list this sender, receiver and service, for a purpose of the token?
    consent     live.py         is there a live grant that names this receiver for this scope and purpose?
    class       decide.py       which of the data classes present does the row list, and the grant include?

`consent.py` evaluates FHIR Consents of any shape (nested provisions, labels, data conditions). A grant whose consent says more than
its flat fields is asked through it, class by class. A decision is taken when something is offered and again when it is sent, so nothing
here keeps a clock, a random number or a database: the same question always has the same answer, and `explain.py` says why.
"""
