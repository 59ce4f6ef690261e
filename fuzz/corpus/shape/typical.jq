{id: .profile.id, name: .profile.name, favorites, orders: [.orders[] | {id, total}]}

{"profile":{"id":42,"name":"Ada"},"favorites":[7,8],"orders":[{"id":1,"total":1.10,"at":"x"},{"id":2,"total":20}]}