"""The whole router in a simulated world: a seed makes a plan, the plan is played, and what was seen from outside is judged.

plan       everything that a seed decides: routes, what clients send and when, what goes wrong
models     the model servers' side of a plan
play       plays a plan, and writes down what passes the router's sockets and its disk
clients    simulated strategies, over HTTP/1.1 or in process
reading    what was written down, read: exchanges, calls to models, the journal's records
rules      the rules of a decision once more, from their description; shares no code with the router
judge      the promises, held against all that
shrink     the smallest plan that still fails
bugs       planted ones, to see that the judge bites
"""
