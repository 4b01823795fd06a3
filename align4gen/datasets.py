def load(*a, **k): raise ValueError('no datasets yet')
def collate(x): pass
class BadFiles:
    def __init__(self,*a): pass
