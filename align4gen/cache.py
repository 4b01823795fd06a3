def collate(x): pass
class CachedClips: pass
