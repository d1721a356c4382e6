"""A coalition on one machine: simulated partner systems, and a demo that plays a scenario between them and a real hub.

    config.py    makes a development configuration: keys, clients, addresses, the hub's settings
    system/      one partner's system: a real HTTP server and a real SMART backend client with a store of its own, a process each
    phone.py     the text gateway: what reaches a survivor's phone
    world.py     starts and stops all of it
    stage.py     lets the scenario runner (`gateway.testing`) ask a system to act
    telling.py   tells the story on a terminal
    demo.py      `gateway demo`

Only here may code name parties; what a scenario does stands in `deploy/demo`. A partner can use the same systems to test its own
software against a hub. Everybody in it is invented, and everything written carries the label HTEST.
"""
